import pytest
from pathlib import Path
from datetime import timedelta
from playwright.sync_api import expect
from tests.factories.people import make_user
from metering.keeper import Keeper
pytestmark = pytest.mark.browser
OUT = Path(__file__).resolve().parents[2] / "screenshots"
from metering.accounts.keys import create_key, revoke_key

def test_shots(world, app, metering, visit):
    OUT.mkdir(exist_ok=True)
    world.now -= timedelta(days=9)
    acme = world.customer("acme-robotics", "pro"); acme.name = "Acme Robotics"
    dana = make_user(world, "dana@acme.example", acme); dana.name = "Dana Whitfield"
    for n in range(3): make_user(world, f"m{n}@acme.example", acme, "member")
    other = world.customer("globex", "free"); other.name="Globex"
    from metering.models import Membership
    world.session.add(Membership(customer_id=other.id, user_id=dana.id, role="viewer", created_at=world.now))
    world.session.commit()
    g = 1024**3
    from metering.store import inbox
    ev = lambda m, q: world.event("acme-robotics", m, q)
    world.record(ev("storage_bytes", int(5.1*g)), ev("api_call", 21000), ev("tokens", 200000))
    key1, m1 = create_key(world.session, acme, name="Production web server", scopes=("meter","usage:read"), now=world.now)
    key3, m3 = create_key(world.session, acme, name="Old laptop", scopes=("meter",), now=world.now)
    world.session.commit(); world.send()
    for _ in range(30):
        world.advance(hours=7)
        world.record(ev("api_call", 2010), ev("tokens", 7321), ev("messages", 333), ev("compute_seconds", "391.25"))
        Keeper(metering.runtime).drain_all()
    world.record(ev("api_call", 1811), ev("storage_bytes", int(1.2*g)), ev("messages", 10))
    Keeper(metering.runtime).drain_all()
    world.advance(minutes=12)
    key1.last_used_at = world.now - timedelta(minutes=2)
    create_key(world.session, acme, name="Nightly batch", scopes=("usage:read",), now=world.now)
    revoke_key(world.session, acme, key3.id, now=world.now)
    world.session.commit(); world.send()
    world.reserve({"tokens": 24000}, customer="acme-robotics")
    def shot(name, path, email="dana@acme.example", login=True, full=True, act=None, **o):
        page = visit.logged_in(email, **o) if login else visit.page(path, **o)
        if login and path: page.goto(path)
        if act: act(page)
        page.wait_for_load_state("networkidle")if not login else page.wait_for_timeout(600)
        page.screenshot(path=OUT/f"{name}.png", full_page=full)
    desk = {"width":1440,"height":900}; phone={"width":360,"height":740}
    def create(page):
        page.get_by_label("Name").fill("Staging"); page.get_by_role("button", name="Create key").click(); page.locator("#new-key").wait_for()
    for theme in ("light","dark"):
        shot(f"overview-{theme}", "/c/acme-robotics/", full=False, viewport=desk, color_scheme=theme)
        metering.runtime.redis.delete(*metering.runtime.redis.keys("*login*"))
        for dev, vp in (("desktop",desk),("phone",phone)):
            shot(f"overview-{dev}-{theme}", "/c/acme-robotics/", viewport=vp, color_scheme=theme)
            shot(f"keys-{dev}-{theme}", "/c/acme-robotics/keys", viewport=vp, color_scheme=theme, act=create if theme=="light" else None)
            shot(f"login-{dev}-{theme}", "/login", login=False, viewport=vp, color_scheme=theme)
            metering.runtime.redis.delete(*metering.runtime.redis.keys("*login*"))
    shot("viewer-keys", "/c/globex/keys", viewport=desk)
    shot("viewer-new", "/c/globex/", viewport=desk)
    shot("notfound", "/c/nothing/", viewport=desk)
    make_user(world, "op@metering.example", operator=True)
    make_user(world, "lonely@metering.example")
    for who in ("op","lonely"):
        page = visit.page(viewport=desk); page.get_by_label("Email").fill(f"{who}@metering.example"); page.get_by_label("Password").fill("a password for tests"); page.get_by_role("button", name="Log in").click(); page.get_by_text("Logged in as").wait_for()
        page.screenshot(path=OUT/f"nobody-{who}.png")
    metering.runtime.redis.delete(*metering.runtime.redis.keys("*login*"))
    page = visit.logged_in("dana@acme.example", viewport=desk); page.goto("/c/acme-robotics/")
    gen = metering.runtime.redis.keys("*gen"); vals=[(k,metering.runtime.redis.get(k)) for k in gen]
