"""Every page there is, in both themes: nothing that a screen reader stumbles over, nothing wider than a phone, nothing
that the browser complains of.

With METERING_SCREENSHOTS=FOLDER each is written there as a picture, wide and narrow, to be looked at.
"""

import os
import re
from pathlib import Path

import pytest
from flask import Flask
from playwright.sync_api import Page

from metering.models import Customer
from tests.browser.conftest import Visit, serious
from tests.factories.people import make_user
from tests.factories.world import World

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("products")]

WIDTHS = (1440, 1280, 768, 390, 360)
PICTURED = (1280, 390)
NO_PAGES = re.compile(r"/live/|/static/|\.csv$|/status$|^/(healthz|readyz|metrics|api|webhooks)|^/c/<customer_key>/$")


def paths(app: Flask) -> list[str]:
    """The addresses of the pages that need no more than a customer to be shown."""
    rules = (rule for rule in app.url_map.iter_rules() if "GET" in (rule.methods or ()))
    found = {rule.rule for rule in rules if rule.arguments <= {"customer_key"} and not NO_PAGES.search(rule.rule)}
    return ["/c/acme/", *sorted(path.replace("<customer_key>", "acme") for path in found - {"/"})]


@pytest.fixture
def acme(world: World, app: Flask) -> Customer:
    """A customer with everything that pages list: usage near and past limits, keys, alerts."""
    customer = world.customer("acme", "pro")
    make_user(world, "owner@acme.example", customer, operator=True)
    make_user(world, "viewer@acme.example", customer, "viewer")
    for place in range(12):
        world.record(
            world.event(quantity=3_000 + 700 * place, id=f"calls {place}"),
            world.event(meter="tokens", quantity=98_000, id=f"tokens {place}"),
            world.event(meter="storage_bytes", quantity=61_000_000 * place, id=f"bytes {place}"),
        )
    world.key(customer)
    world.drain()
    return customer


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_is_fit_to_be_seen(app: Flask, acme: Customer, visit: Visit, axe: str, theme: str) -> None:
    faults = looked_at(visit.page("/login", color_scheme=theme), "login", axe, theme)
    page = visit.logged_in(color_scheme=theme)
    seen = 0
    for path in paths(app):
        answer = page.goto(path)
        assert answer is not None
        assert (path, answer.status) == (path, 200)
        name = path.strip("/").replace("/", "_").replace("c_acme", "overview" if path == "/c/acme/" else "c")
        faults += looked_at(page, name, axe, theme)
        seen += 1

    assert faults == []
    assert visit.faults == []
    assert seen > 4


def looked_at(page: Page, name: str, axe: str, theme: str) -> list[str]:
    """What is wrong with the page that is open."""
    found = serious(page, axe)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        needed = page.evaluate("document.documentElement.scrollWidth")
        if needed > width:
            found.append(f"{name} {theme}: needs {needed} pixels of {width}")
        if width in PICTURED and (folder := os.environ.get("METERING_SCREENSHOTS")):
            page.screenshot(path=Path(folder) / f"{name}-{theme}-{width}.png", full_page=True)
    page.set_viewport_size({"width": 1280, "height": 900})
    return found
