"""Plan and bill in a browser: from the button to Stripe's page and back, with scripts and without, on a phone."""

import pytest
from flask import Flask
from playwright.sync_api import expect

from tests.browser.conftest import Visit, serious
from tests.factories.shop import Shop

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


@pytest.fixture
def app(stripe_app: Flask) -> Flask:
    return stripe_app


def test_a_plan_is_looked_at_on_the_bill_then_changed_and_cancelled(shop: Shop, visit: Visit, axe: str) -> None:
    shop.buy("pro")
    shop.deliver()
    shop.books.use(1_000)
    page = visit.logged_in()
    expect(page.locator(".menu-sub").first).to_have_text("Pro plan")

    page.get_by_role("link", name="Bill", exact=True).click()
    page.locator("summary", has_text="API calls").click()
    expect(page.get_by_text("10,000 included: nothing to pay.").first).to_be_visible()
    assert serious(page, axe) == []
    page.locator("#invoices").get_by_role("link").first.click()
    expect(page.get_by_text("1 × Pro plan")).to_be_visible()
    assert serious(page, axe) == []
    page.get_by_role("link", name="View at Stripe").click()
    expect(page.get_by_role("heading", name="Invoice")).to_be_visible()
    page.go_back()

    page.get_by_role("link", name="Plan", exact=True).click()
    page.get_by_role("link", name="Switch to Enterprise").click()
    assert serious(page, axe) == []
    page.get_by_role("button", name="Switch to Enterprise").click()
    expect(page.get_by_role("heading", name="Enterprise plan")).to_be_visible()
    page.get_by_role("link", name="Cancel plan").click()
    assert serious(page, axe) == []
    page.get_by_role("button", name="Cancel at the end of the period").click()
    expect(page.get_by_role("button", name="Keep this plan")).to_be_visible()
    assert visit.faults == []


def test_buying_works_without_scripts(shop: Shop, visit: Visit) -> None:
    shop.books.use(1_000)
    page = visit.logged_in(java_script_enabled=False)
    page.goto("/c/acme/plan")
    expect(page.get_by_text("You use 1,000 of 1,000")).to_be_visible()
    page.get_by_role("button", name="Upgrade to Pro").click()
    page.get_by_role("button", name="Pay").click()

    shop.deliver()
    page.get_by_role("link", name="Look again").click()

    expect(page.get_by_role("heading", name="Pro plan")).to_be_visible()
    expect(page.get_by_role("button", name="Manage payment")).to_be_visible()


def test_it_fits_a_phone(shop: Shop, visit: Visit, axe: str) -> None:
    shop.buy("pro")
    shop.deliver()
    page = visit.logged_in(viewport={"width": 360, "height": 800})

    page.goto("/c/acme/bill")
    invoice = page.locator("#invoices").get_by_role("link").first.get_attribute("href")
    for path in ("/c/acme/plan/change?plan=enterprise", "/c/acme/plan/cancel", "/c/acme/bill", invoice or ""):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert serious(page, axe) == []
