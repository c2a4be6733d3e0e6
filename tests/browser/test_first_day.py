"""A customer's first day in a browser: from the first login over the first call and the limit to a bigger plan."""

import pytest
from flask import Flask
from playwright.sync_api import expect

from tests.browser.conftest import SOON_MS, Visit, ping
from tests.factories.people import PASSWORD
from tests.factories.shop import Shop
from tests.factories.world import World

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

FREE_CALLS = 1_000


@pytest.fixture
def app(stripe_app: Flask) -> Flask:
    return stripe_app


def test_from_the_first_login_to_the_limit_and_past_it(shop: Shop, world: World, visit: Visit) -> None:
    page = visit.page("/login")
    page.get_by_label("Email").fill("owner@acme.example")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_text("Nothing used yet")).to_be_visible()
    page.get_by_role("link", name="Quick start").click()
    page.get_by_role("button", name="Create API key").click()
    secret = page.locator("#new-key").inner_text()
    expect(page.locator("#from-a-shell")).to_contain_text(secret)
    expect(page.get_by_text("Your newest key begins with")).to_contain_text(secret[:9])
    page.evaluate("window.sameDocument = true")

    assert ping(shop.url, secret) == 200
    expect(page.get_by_text("3 of 5 done")).to_be_visible(timeout=SOON_MS)
    assert page.evaluate("window.sameDocument") is True

    page.get_by_role("link", name="Overview", exact=True).click()
    page.evaluate("window.sameDocument = true")
    calls = page.get_by_role("article", name="API calls")
    expect(calls.get_by_title("1 API call", exact=True)).to_be_visible()
    assert ping(shop.url, secret) == 200
    expect(calls.get_by_title("2 API calls", exact=True)).to_be_visible(timeout=SOON_MS)

    world.record(world.event(quantity=FREE_CALLS - 3))
    assert [ping(shop.url, secret) for _ in range(2)] == [200, 429]
    limit_reached = page.get_by_text("API calls: limit reached", exact=True).first
    expect(limit_reached).to_be_visible(timeout=SOON_MS)
    expect(calls.get_by_text("Limit reached")).to_be_visible(timeout=SOON_MS)
    expect(page.locator("[data-announcer]")).to_have_text("API calls: limit reached")
    assert page.evaluate("window.sameDocument") is True

    page.get_by_role("link", name="Plan", exact=True).click()
    page.get_by_role("button", name="Upgrade to Pro").click()
    page.get_by_role("button", name="Pay").click()
    expect(page.get_by_text("as soon as Stripe has confirmed it")).to_be_visible()
    shop.deliver()
    expect(page.get_by_role("heading", name="Pro plan")).to_be_visible()

    page.get_by_role("link", name="Overview", exact=True).click()
    page.evaluate("window.sameDocument = true")
    expect(limit_reached).to_have_count(0)
    expect(calls.get_by_text("Limit reached")).to_have_count(0)
    assert ping(shop.url, secret) == 200
    expect(calls.get_by_title("1 API call", exact=True)).to_be_visible(timeout=SOON_MS)  # of the period that Pro began
    assert page.evaluate("window.sameDocument") is True
    assert visit.faults == []
