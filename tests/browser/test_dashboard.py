"""The dashboard as people use it: live without reloading, without scripts, on a phone, read by a screen reader."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect
from sqlalchemy import update

from metering.models import Customer, User
from tests.browser.conftest import SOON_MS, ping
from tests.factories.people import make_user
from tests.factories.world import World

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


@pytest.fixture
def acme(world: World, app: object) -> Customer:
    customer = world.customer("acme", "free")
    make_user(world, "owner@acme.example", customer)
    return customer


def card(page: Page, name: str) -> Locator:
    return page.get_by_role("article", name=name)


def lively(world: World) -> None:
    world.record(
        world.event(quantity=846),
        world.event(meter="tokens", quantity=10_000),
        world.event(meter="storage_bytes", quantity=61_000_000),
        world.event(meter="messages", quantity=37),
    )


def test_what_was_used_reaches_the_bill_without_a_reload(world, acme, visit):
    page = visit.logged_in()
    bill = page.get_by_role("row", name="Messages")
    expect(bill).to_contain_text("$0.00")
    world.record(world.event(meter="messages", quantity=73))
    expect(bill.get_by_role("cell").first).to_have_text("73", timeout=SOON_MS)
    assert visit.faults == []


def test_an_ended_session_leads_to_the_login_page(world, acme, visit):
    page = visit.logged_in()
    world.session.execute(update(User).values(password_hash="changed elsewhere"))
    world.session.commit()
    page.wait_for_url("**/login*", timeout=SOON_MS)
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()


def test_everything_works_without_scripts(world, acme, site, visit):
    lively(world)
    page = visit.logged_in(java_script_enabled=False)
    expect(card(page, "API calls").get_by_text("846", exact=True)).to_be_visible()
    expect(page.get_by_text("Tokens: limit reached", exact=True)).to_be_visible()
    page.get_by_role("link", name="API keys").click()
    page.get_by_label("Name").fill("Without scripts")
    page.get_by_role("button", name="Create key").click()
    secret = page.locator("#new-key").inner_text()
    assert ping(site, secret) == 200
    page.locator("summary", has_text="Revoke").click()
    page.get_by_role("link", name="Cancel").click()
    expect(page.get_by_role("button", name="Revoke key")).to_be_hidden()
    assert ping(site, secret) == 200
    page.locator("summary", has_text="Revoke").click()
    page.get_by_role("button", name="Revoke key").click()
    expect(page.get_by_text("Key “Without scripts” is revoked.")).to_be_visible()
    assert ping(site, secret) == 401
    page.locator("summary", has_text="owner@acme.example").click()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()


def test_a_key_is_shown_once_used_and_revoked(world, acme, site, visit):
    page = visit.logged_in()
    page.goto("/c/acme/keys")
    page.get_by_label("Name").fill("Only one")
    page.get_by_role("button", name="Create key").click()
    secret = page.locator("#new-key").inner_text()
    assert ping(site, secret) == 200

    page.reload()
    expect(page.locator("#new-key")).to_have_count(0)
    row = page.get_by_role("row", name=re.compile("Only one"))
    expect(row).to_have_count(1)
    assert secret not in page.content()

    page.locator("summary", has_text="Revoke").click()
    page.get_by_role("link", name="Cancel").click()
    expect(page.get_by_role("button", name="Revoke key")).to_be_hidden()
    expect(page.locator("summary", has_text="Revoke")).to_be_focused()
    page.locator("summary", has_text="Revoke").click()
    page.get_by_role("button", name="Revoke key").click()
    expect(row.get_by_text("Revoked", exact=True)).to_be_visible()
    assert ping(site, secret) == 401
    assert visit.faults == []


@pytest.mark.parametrize("path", ["/login", "/c/acme/", "/c/acme/keys", "/c/acme/nothing"])
def test_a_phone_shows_each_page_without_scrolling_sideways(world, acme, visit, path):
    lively(world)
    acme.name = "The Extraordinarily Long Name of a Customer That Nobody Shortened"
    world.session.add(acme)
    world.session.commit()
    world.key(acme)
    phone = {"viewport": {"width": 360, "height": 740}}
    page = visit.page(**phone) if path == "/login" else visit.logged_in(**phone)
    page.goto(path)
    width = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1]
