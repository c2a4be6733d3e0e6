"""The plan page in a browser: from the button to Stripe's page and back, live, without scripts, for everybody."""

from collections.abc import Iterator

import pytest
from flask import Flask
from playwright.sync_api import Browser, expect
from sqlalchemy import Engine

from tests.browser.conftest import Visit
from tests.factories.shop import Served, Shop
from tests.factories.standin import StandinProcess
from tests.factories.world import World

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("products")]

SERIOUS = ("serious", "critical")


@pytest.fixture
def app(stripe_app: Flask) -> Flask:
    return stripe_app


@pytest.fixture
def shop(app: Flask, world: World, standin: StandinProcess, engine: Engine) -> Iterator[Shop]:
    served = Served(app)
    yield Shop(app, world, standin, engine, served.url).open()
    served.close()


@pytest.fixture
def visit(browser: Browser, shop: Shop) -> Iterator[Visit]:
    visit = Visit(browser, shop.url)
    yield visit
    for context in visit.contexts:
        context.close()


def test_a_plan_is_bought_and_the_page_is_another_as_soon_as_it_is(shop: Shop, visit: Visit, axe: str) -> None:
    page = visit.logged_in()
    page.get_by_role("link", name="Plan", exact=True).click()
    page.get_by_role("button", name="Upgrade to Pro").click()
    page.get_by_role("button", name="Pay").click()
    expect(page.get_by_text("as soon as Stripe has confirmed it")).to_be_visible()

    shop.deliver()

    expect(page.get_by_role("heading", name="Pro plan")).to_be_visible()
    expect(page.get_by_role("button", name="Manage payment")).to_be_visible()
    expect(page.locator(".menu-sub").first).to_have_text("Pro plan")
    page.evaluate(axe)
    violations = page.evaluate("axe.run()")["violations"]
    assert [one["id"] for one in violations if one["impact"] in SERIOUS] == []
    page.get_by_text("Cancel plan").click()
    page.get_by_role("button", name="Cancel at the end of the period").click()
    expect(page.get_by_role("button", name="Keep this plan")).to_be_visible()
    assert visit.faults == []


def test_it_works_without_scripts(shop: Shop, visit: Visit) -> None:
    page = visit.logged_in(java_script_enabled=False)
    page.goto("/c/acme/plan")
    page.get_by_role("button", name="Upgrade to Pro").click()
    page.get_by_role("button", name="Pay").click()

    shop.deliver()
    page.get_by_role("link", name="Look again").click()

    expect(page.get_by_role("heading", name="Pro plan")).to_be_visible()


def test_it_fits_a_phone(shop: Shop, visit: Visit) -> None:
    page = visit.logged_in(viewport={"width": 375, "height": 800})
    page.goto("/c/acme/plan")

    assert page.evaluate("document.documentElement.scrollWidth") <= 375
