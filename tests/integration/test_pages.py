"""The pages of a customer, over real servers: who sees what, what is shown, and what stays when a server is away."""

import re
from dataclasses import replace
from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import select

from metering.catalog import Meter
from metering.dashboard.access import find_access, require_key_manager
from metering.dashboard.remembered import KEPT
from metering.errors import NotPermitted
from metering.keeper import Keeper
from metering.models import ApiKey, Customer, Membership, User
from metering.store.meters import create_meter
from tests.conftest import running_app
from tests.factories.fault_proxy import FaultProxy, postgres_proxy, redis_proxy
from tests.factories.people import Visitor, make_user
from tests.factories.world import World

HOSTILE = "<script>alert(1)</script>"
PAGES = ("/c/acme/", "/c/acme/keys", "/c/acme/quickstart")
PARTIALS = ("/c/acme/live/usage", "/c/acme/live/alerts", "/c/acme/live/estimate", "/c/acme/live/activity")
SECRET = re.compile(r'id="new-key">(mk_[^<]+)<')
FINGERPRINT = re.compile(r"fingerprint=([0-9a-f]{16})")


@pytest.fixture
def acme(world: World) -> Customer:
    customer = world.customer("acme", "pro")
    make_user(world, "owner@acme.example", customer, "owner")
    return customer


@pytest.fixture
def owner(app: Flask, acme: Customer) -> Visitor:
    return logged_in(app, "owner@acme.example")


def logged_in(app: Flask, email: str) -> Visitor:
    visitor = Visitor.of(app)
    assert visitor.log_in(email).status_code == 303
    return visitor


def key_id(world: World, name: str = "test") -> int:
    world.session.rollback()
    return world.session.scalars(select(ApiKey.id).where(ApiKey.name == name)).one()


# -- who sees what -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES + PARTIALS)
def test_members_of_every_role_may_look(app, world, acme, path):
    for role in ("owner", "admin", "member", "viewer"):
        email = f"{role}@roles.example"
        make_user(world, email, acme, role)
        answer = logged_in(app, email).open(path)
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "private, no-store"


@pytest.mark.parametrize("path", PAGES + PARTIALS)
def test_a_customer_of_others_is_no_different_from_one_that_does_not_exist(app, world, acme, path):
    make_user(world, "stranger@bravo.example", world.customer("bravo", "pro"))
    stranger = logged_in(app, "stranger@bravo.example")
    assert stranger.open("/c/bravo/").status_code == 200
    theirs, nobodys = stranger.open(path), stranger.open(path.replace("acme", "nobody"))
    assert (theirs.status_code, nobodys.status_code) == (404, 404)
    ids = re.compile(r"<code>[0-9a-f]+</code>")
    assert ids.sub("", theirs.text) == ids.sub("", nobodys.text)


@pytest.mark.parametrize("path", PAGES + PARTIALS)
def test_operators_may_look_at_all_and_change_nothing(app, world, acme, path):
    make_user(world, "operator@metering.example", operator=True)
    operator = logged_in(app, "operator@metering.example")
    assert operator.open(path).status_code == 200
    assert operator.open(path.replace("acme", "nobody")).status_code == 404
    assert operator.submit("/c/acme/", "/c/acme/keys", name="mine", scopes="meter").status_code == 403


@pytest.mark.parametrize("path", PARTIALS)
def test_an_ended_session_makes_htmx_load_the_login_page(app, owner, path):
    assert owner.partial(path).status_code == 200
    owner.submit("/c/acme/", "/logout")
    answer = owner.partial(path)
    assert (answer.status_code, answer.headers["HX-Redirect"], answer.text) == (401, "/login", "")


@pytest.mark.parametrize("path", PAGES)
def test_anonymous_visitors_are_sent_to_the_login(client, acme, path):
    assert client.get(path).location == f"/login?next={path}"


def test_access_ends_with_the_membership(world, owner, acme):
    assert owner.open("/c/acme/").status_code == 200
    world.session.delete(world.session.scalars(select(Membership)).one())
    world.session.commit()
    assert [owner.open(path).status_code for path in PAGES + PARTIALS] == [404] * len(PAGES + PARTIALS)


def test_the_switcher_names_ones_own_customers_only(app, world, acme):
    user = make_user(world, "both@example.org", acme)
    bravo = world.customer("bravo", "pro")
    world.session.add(Membership(customer_id=bravo.id, user_id=user.id, role="viewer", created_at=world.now))
    world.customer("charlie", "pro")
    page = logged_in(app, "both@example.org").open("/c/bravo/").text
    assert 'href="/c/acme/"' in page
    assert "charlie" not in page


# -- what is shown -----------------------------------------------------------------------------------------------------


def test_cards_show_live_usage_before_the_drain_has_seen_it(world, owner):
    world.record(world.event(quantity=12_431), world.event(meter="storage_bytes", quantity=3_435_973_836))
    page = owner.open("/c/acme/").text
    assert "12.4K" in page
    assert "12,431 API calls" in page
    assert "3.2\u00a0GB" in page
    assert "of 100K" in page
    assert "Resets in 20 days" in page


def test_a_meter_made_at_run_time_has_a_card_once_it_has_usage(world, owner, metering):
    pixels = Meter(key="pixels", name="Image pixels", unit="pixel", aggregation="sum", event_type="image")
    create_meter(world.session, world.catalog, pixels, now=world.now)
    world.session.commit()
    metering.runtime.refresh_meters(0)
    world.record(world.event())
    before = owner.open("/c/acme/live/usage").text
    assert "API calls" in before
    assert "Image pixels" not in before

    metering.record("acme", "pixels", 4)
    assert "4 pixels" in owner.open("/c/acme/live/usage").text


def test_running_calls_show_what_they_hold(world, owner):
    world.reserve({"tokens": 1_500})
    assert "1.5K held by running calls" in owner.open("/c/acme/live/usage").text


def test_usage_beyond_what_is_included_costs_and_the_bill_says_so(world, owner, metering):
    world.record(world.event(quantity=12_431))
    Keeper(metering.runtime).drain_all()
    cards = owner.open("/c/acme/live/usage").text
    assert re.search(r"Extra cost</dt>\s*<dd>\$2\.43", cards)
    bill = owner.open("/c/acme/live/estimate").text
    assert "$0.001 per API call" in bill
    assert "2,431" in bill
    assert "$51.43" in bill  # $49 for the plan, $2.43 for the calls


def test_a_new_customer_is_led_to_the_quick_start(world, owner, acme):
    first = owner.open("/c/acme/live/usage").text
    assert "Nothing used yet" in first
    assert 'href="/c/acme/quickstart"' in first
    world.record(world.event())
    assert "Nothing used yet" not in owner.open("/c/acme/live/usage").text


def test_in_a_new_period_nobody_is_told_to_begin_again(world, owner):
    world.record(world.event(quantity=7))
    world.drain()
    world.advance(days=25)
    cards = owner.open("/c/acme/live/usage").text
    assert "0 API calls" in cards
    assert "Nothing used yet" not in cards


@pytest.mark.parametrize("path", PARTIALS)
def test_a_part_is_sent_again_only_when_it_has_changed(world, owner, metering, path):
    known = FINGERPRINT.search(owner.partial(path).text)[1]
    unchanged = owner.partial(f"{path}?fingerprint={known}")
    assert (unchanged.status_code, unchanged.text) == (204, "")
    assert unchanged.headers["Cache-Control"] == "private, no-store"
    world.record(world.event(quantity=90_000))
    Keeper(metering.runtime).drain_all()
    changed = owner.partial(f"{path}?fingerprint={known}")
    assert changed.status_code == 200
    assert changed.headers["Cache-Control"] == "private, no-store"
    assert "<html" not in changed.text


def test_an_alert_is_there_at_once_and_tells_when_once_it_is_written_down(world, owner, metering):
    world.record(world.event(quantity=79_999))
    assert "data-alert" not in owner.open("/c/acme/live/alerts").text
    world.record(world.event())
    live = owner.open("/c/acme/live/alerts").text
    assert "API calls: 80% of the limit used" in live
    assert "The limit is 100,000 API calls; it starts anew on Dec 1, 2026." in live
    assert "notice-time" not in live
    Keeper(metering.runtime).drain_all()
    world.advance(minutes=5)
    written = owner.open("/c/acme/live/alerts").text
    assert "5 minutes ago" in written
    ids = [re.findall(r'data-alert="([^"]+)"', text) for text in (live, written)]
    assert ids[0] == ids[1]
    assert len(ids[0]) == 1


def test_a_meter_has_one_alert_the_highest(world, owner):
    world.record(world.event(quantity=100_000), world.event(meter="messages", quantity=8_500))
    page = owner.open("/c/acme/").text
    assert re.findall(r'data-announce="([^"]+)"', page) == [
        "API calls: limit reached",
        "Messages: 80% of the limit used",
    ]
    assert "More is refused until Dec 1, 2026" in page


def test_an_alert_goes_when_it_is_not_true_any_more(world, owner, metering):
    gigabyte = 1024**3
    world.record(world.event(meter="storage_bytes", quantity=10 * gigabyte))
    Keeper(metering.runtime).drain_all()
    assert "Storage: limit reached" in owner.open("/c/acme/live/alerts").text
    world.record(world.event(meter="storage_bytes", quantity=-9 * gigabyte))
    assert "data-alert" not in owner.open("/c/acme/live/alerts").text


def test_names_are_text_never_markup(app, world):
    customer = world.customer("evil", "pro")
    customer.name = HOSTILE
    make_user(world, "evil@example.org", customer)
    world.key(customer)
    world.session.execute(ApiKey.__table__.update().values(name=HOSTILE))
    world.session.commit()
    visitor = logged_in(app, "evil@example.org")
    for path in ("/c/evil/", "/c/evil/keys", "/c/evil/live/alerts"):
        page = visitor.open(path).text
        assert HOSTILE not in page
    assert "&lt;script&gt;" in visitor.open("/c/evil/").text
    created = visitor.submit("/c/evil/keys", "/c/evil/keys", name=HOSTILE, scopes="meter").text
    assert HOSTILE not in created
    assert "is ready" in created


# -- keys --------------------------------------------------------------------------------------------------------------


def test_a_created_key_opens_the_api_at_once_and_is_shown_once(world, owner, client):
    answer = owner.submit("/c/acme/keys", "/c/acme/keys", name=" Server ", scopes=["meter", "usage:read"])
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert "Set-Cookie" not in answer.headers or "mk_" not in answer.headers["Set-Cookie"]
    secret = SECRET.search(answer.text)[1]
    call = client.get("/api/v1/sample/ping", headers={"Authorization": f"Bearer {secret}"})
    assert call.status_code == 200
    again = owner.open("/c/acme/keys").text
    assert secret not in again
    assert "Server" in again
    assert secret[:10] in again


def test_a_revoked_key_is_refused_at_the_very_next_call(world, owner, acme, client):
    made = world.key(acme)
    headers = {"Authorization": f"Bearer {made.secret}"}
    assert client.get("/api/v1/sample/ping", headers=headers).status_code == 200
    answer = owner.submit("/c/acme/keys", f"/c/acme/keys/{key_id(world)}/revoke")
    assert (answer.status_code, answer.location) == (303, "/c/acme/keys")
    assert client.get("/api/v1/sample/ping", headers=headers).status_code == 401
    assert "Key “test” is revoked." in owner.open("/c/acme/keys").text


@pytest.mark.parametrize(("role", "status"), [("owner", 200), ("admin", 200), ("member", 403), ("viewer", 403)])
def test_owners_and_admins_manage_keys(app, world, acme, role, status):
    world.key(acme)
    make_user(world, "somebody@example.org", acme, role)
    visitor = logged_in(app, "somebody@example.org")
    assert ("Create a key" in visitor.open("/c/acme/keys").text) == (status == 200)
    created = visitor.submit("/c/acme/", "/c/acme/keys", name="new", scopes="meter")
    revoked = visitor.submit("/c/acme/", f"/c/acme/keys/{key_id(world)}/revoke")
    assert created.status_code == status
    assert revoked.status_code == (303 if status == 200 else 403)


def test_another_customers_key_cannot_be_revoked(app, world, acme):
    made = world.key(acme)
    make_user(world, "stranger@bravo.example", world.customer("bravo", "pro"))
    stranger = logged_in(app, "stranger@bravo.example")
    for customer in ("acme", "bravo"):
        answer = stranger.submit("/c/bravo/", f"/c/{customer}/keys/{key_id(world)}/revoke")
        assert answer.status_code == 404
    call = Visitor.of(app).open("/api/v1/sample/ping", X_API_Key=made.secret)
    assert call.status_code == 200


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "  ", "scopes": "meter"}, "Say what the key is for."),
        ({"name": "x" * 81, "scopes": "meter"}, "At most 80 characters."),
        ({"name": "server"}, "Choose at least one."),
        ({"name": "server", "scopes": "events:write"}, "not a valid choice"),
    ],
)
def test_a_key_that_cannot_be_made_is_explained_at_the_field(world, owner, fields, words):
    answer = owner.submit("/c/acme/keys", "/c/acme/keys", **fields)
    assert answer.status_code == 422
    assert words in answer.text
    assert world.session.scalars(select(ApiKey)).all() == []


def test_forms_without_their_token_change_nothing(world, owner, acme):
    world.key(acme)
    assert owner.client.post("/c/acme/keys", data={"name": "x", "scopes": "meter"}).status_code == 400
    assert owner.client.post(f"/c/acme/keys/{key_id(world)}/revoke").status_code == 400
    world.session.rollback()
    assert [key.revoked_at for key in world.session.scalars(select(ApiKey))] == [None]


# -- when a server is away ---------------------------------------------------------------------------------------------


class Away:
    """An app whose way to one server can be cut, and a visitor who is logged in to it."""

    def __init__(self, app: Flask, proxy: FaultProxy) -> None:
        self.app, self.proxy = app, proxy
        self.visitor = logged_in(app, "owner@acme.example")


@pytest.fixture
def without_redis(world, servers, tmp_path, acme):
    proxy, through = redis_proxy(servers.redis_url)
    with running_app(world, tmp_path, database_url=servers.database_url, redis_url=through) as app:
        yield Away(app, proxy)
        proxy.cut()


@pytest.fixture
def without_postgres(world, servers, tmp_path, acme):
    proxy, through = postgres_proxy(servers.database_url)
    with running_app(world, tmp_path, database_url=through, redis_url=servers.redis_url) as app:
        yield Away(app, proxy)
        proxy.cut()


def test_without_redis_the_last_written_figures_are_shown_as_such(world, without_redis):
    visitor = without_redis.visitor
    world.record(world.event(quantity=85_000), world.event(meter="storage_bytes", quantity=2048))
    world.drain()
    without_redis.proxy.cut()
    page = visitor.open("/c/acme/")
    assert page.status_code == 200
    assert "Live figures are unavailable" in page.text
    assert "Metered calls are refused until live counting is back" in page.text
    assert "Last known figures, of Nov 10, 2026, 12:00 UTC" in page.text
    assert "85,000 API calls of 100,000 API calls" in page.text
    assert "2\u00a0KB" in page.text
    assert "API calls: 80% of the limit used" in page.text
    assert "Total so far" in page.text
    without_redis.proxy.mend()
    again = visitor.open("/c/acme/").text
    assert "unavailable" not in again
    assert "Last known" not in again


def test_what_is_said_of_an_outage_is_what_the_settings_say(world, servers, tmp_path, acme):
    with running_app(
        world, tmp_path, database_url=servers.database_url, redis_url="redis://127.0.0.1:1/0", on_outage="allow"
    ) as app:
        page = logged_in(app, "owner@acme.example").open("/c/acme/").text
    assert "Calls are still served, and their usage is still recorded" in page


def test_without_redis_keys_are_saved_and_work_when_it_is_back(world, without_redis):
    visitor = without_redis.visitor
    made = world.key(world.session.scalars(select(Customer)).one())
    without_redis.proxy.cut()
    created = visitor.submit("/c/acme/keys", "/c/acme/keys", name="new", scopes="meter")
    assert created.status_code == 200
    assert "takes effect as soon as live counting is back" in created.text
    visitor.submit("/c/acme/keys", f"/c/acme/keys/{key_id(world)}/revoke")
    assert "It takes effect as soon as live counting is back." in visitor.open("/c/acme/keys").text
    without_redis.proxy.mend()
    Keeper(without_redis.app.extensions["metering"].runtime).send_state()
    secret = SECRET.search(created.text)[1]
    assert visitor.open("/api/v1/sample/ping", X_API_Key=secret).status_code == 200
    assert visitor.open("/api/v1/sample/ping", X_API_Key=made.secret).status_code == 401


def test_without_postgresql_the_cards_stay_live_and_the_rest_says_that_it_is_away(world, without_postgres):
    visitor = without_postgres.visitor
    assert visitor.open("/c/acme/").status_code == 200
    world.record(world.event(quantity=100_000))
    without_postgres.proxy.cut()
    world.record(world.event(meter="tokens", quantity=4_321))
    page = visitor.open("/c/acme/")
    assert page.status_code == 200
    assert "4,321 tokens" in page.text
    assert "API calls: limit reached" in page.text
    assert "The bill and the record of alerts are unavailable" in page.text
    assert "The bill so far can’t be read right now." in page.text
    for path in PARTIALS:
        part = visitor.partial(path)
        known = FINGERPRINT.search(part.text)[1]
        assert visitor.partial(f"{path}?fingerprint={known}").status_code == 204
    without_postgres.proxy.mend()
    again = visitor.open("/c/acme/").text
    assert "unavailable" not in again
    assert "Total so far" in again


def test_without_postgresql_nothing_can_be_changed(world, without_postgres):
    visitor = without_postgres.visitor
    visitor.open("/c/acme/keys")
    token = re.search(r'name="csrf_token" value="([^"]+)"', visitor.open("/c/acme/").text)[1]
    without_postgres.proxy.cut()
    assert visitor.open("/c/acme/keys").status_code == 503
    answer = visitor.client.post("/c/acme/keys", data={"csrf_token": token, "name": "x", "scopes": "meter"})
    assert answer.status_code == 503


def test_what_is_only_remembered_is_never_enough_to_change_anything(world, acme):
    """PostgreSQL may come back between the look at the session and the change."""
    access = find_access(world.session, world.catalog, world.session.scalars(select(User)).one(), "acme")
    require_key_manager(access)
    with pytest.raises(NotPermitted):
        require_key_manager(replace(access, remembered=True))


def test_without_postgresql_only_those_are_served_who_were_seen_a_moment_ago(world, without_postgres):
    visitor = without_postgres.visitor
    assert visitor.open("/c/acme/").status_code == 200
    without_postgres.proxy.cut()
    assert Visitor.of(without_postgres.app).open("/c/acme/").status_code == 302
    assert visitor.open("/c/bravo/").status_code == 503
    world.advance(seconds=KEPT.total_seconds())
    assert visitor.open("/c/acme/").status_code == 200
    world.now += timedelta(seconds=1)
    assert visitor.open("/c/acme/").status_code == 503


def test_who_was_shut_out_stays_out_when_postgresql_goes_away(world, without_postgres):
    visitor = without_postgres.visitor
    assert visitor.open("/c/acme/").status_code == 200
    world.session.delete(world.session.scalars(select(Membership)).one())
    world.session.commit()
    assert visitor.open("/c/acme/").status_code == 404
    without_postgres.proxy.cut()
    assert visitor.open("/c/acme/").status_code == 503


def test_without_both_the_page_says_so_and_comes_back(world, servers, tmp_path, acme):
    postgres, database_url = postgres_proxy(servers.database_url)
    redis, redis_url = redis_proxy(servers.redis_url)
    with running_app(world, tmp_path, database_url=database_url, redis_url=redis_url) as app:
        visitor = logged_in(app, "owner@acme.example")
        visitor.open("/c/acme/")
        postgres.cut()
        redis.cut()
        page = visitor.open("/c/acme/")
        assert page.status_code == 503
        assert "Not available right now" in page.text
        postgres.mend()
        redis.mend()
        assert visitor.open("/c/acme/").status_code == 200
        postgres.cut()
        redis.cut()


# -- files -------------------------------------------------------------------------------------------------------------


def test_files_are_addressed_by_their_content_and_kept_for_a_year(client):
    address = re.search(r'href="(/static/css/app\.css\?v=[0-9a-f]+)"', client.get("/login").text)[1]
    with client.get(address) as kept:
        assert kept.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert kept.content_type.startswith("text/css")
    with client.get("/static/css/app.css?v=123456789abc") as other:
        assert (other.status_code, other.headers["Cache-Control"]) == (200, "public, max-age=3600")
    assert client.get("/static/nothing.css?v=123456789abc").status_code == 404
