"""Every page there is, in both themes: nothing that a screen reader stumbles over, nothing wider than a phone, nothing
that the browser complains of.

With METERING_SCREENSHOTS=FOLDER each is written there as a picture, wide and narrow, to be looked at.
"""

import os
import re
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any, Literal

import pytest
from flask import Flask
from playwright.sync_api import Page

from metering.accounts.credentials import ask_for_email, new_reset
from metering.accounts.invitations import invite
from metering.accounts.sign_up import ask_for_account
from metering.accounts.users import find_user
from metering.notify.deliveries import ping
from metering.notify.endpoints import create_endpoint
from tests.browser.conftest import Visit, serious
from tests.factories.console import sow_console
from tests.factories.people import PASSWORD, make_user
from tests.factories.subscriptions import invoiced
from tests.factories.world import World

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

WIDTHS = (1440, 1280, 768, 390, 360)
PICTURED = (1280, 390)
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
PARAMETER = re.compile(r"<(?:[^<>]*:)?(\w+)>")
NO_PAGES = re.compile(r"/live/|/static/|\.csv$|/status$|^/(healthz|readyz|metrics|api|webhooks)|^/c/<customer_key>/$")


def paths(app: Flask, ids: Mapping[str, Any]) -> list[str]:
    """The addresses of the pages that need no more than `ids` to be shown."""
    rules = (rule for rule in app.url_map.iter_rules() if "GET" in (rule.methods or ()))
    found = {rule.rule for rule in rules if rule.arguments <= ids.keys() and not NO_PAGES.search(rule.rule)}
    return ["/c/acme/", *sorted(PARAMETER.sub(lambda name: str(ids[name[1]]), path) for path in found - {"/"})]


@pytest.fixture
def ids(world: World, app: Flask) -> dict[str, Any]:
    """A customer with everything that pages list, and one of everything that operators decide on: usage near and past
    limits, keys, alerts, an invoice, a webhook that was sent; by the names in addresses.
    """
    customer = world.customer("acme", "pro")
    make_user(world, "owner@acme.example", customer, operator=True)
    make_user(world, "viewer@acme.example", customer, "viewer")
    for place in range(12):
        world.record(
            first := world.event(quantity=3_000 + 700 * place, id=f"calls {place}"),
            world.event(meter="tokens", quantity=98_000, id=f"tokens {place}"),
            world.event(meter="storage_bytes", quantity=61_000_000 * place, id=f"bytes {place}"),
        )
    world.key(customer)
    world.drain()
    url = "https://hooks.acme.example/a/rather/long/address/of/an/endpoint"
    endpoint = create_endpoint(world.session, customer, url=url, events=["alert.crossed"], now=world.now)
    ping(world.session, endpoint, now=world.now)
    invoice = invoiced(world.session, customer, world.now)
    world.session.commit()
    of_acme = {"customer_key": "acme", "event_id": first.digest, "endpoint_id": endpoint.id, "invoice_id": invoice.id}
    return of_acme | sow_console(world)


@pytest.fixture
def mailed(world: World, ids: dict[str, Any]) -> dict[str, str]:
    """The pages that links in e-mails lead to, by their names."""
    session, now, customer = world.session, world.now, world.find("acme")
    owner = find_user(session, "owner@acme.example")
    new = {"email": "new@acme.example", "password": PASSWORD, "name": "New", "organization": "New"}
    signed_up, _ = ask_for_account(session, **new, now=now)
    _, invited = invite(session, customer, "mate@acme.example", "member", by=owner.email, now=now)
    moved = ask_for_email(session, owner, "elsewhere@acme.example", now=now)
    assert moved is not None
    reset = new_reset(session, owner, base_url="/", now=now)
    session.commit()
    return {
        "reset": reset,
        "verify": f"/verify/{signed_up.secret}",
        "invitation": f"/invitations/{invited.secret}",
        "email": f"/account/email/{moved.secret}",
    }


def test_every_page_is_fit_to_be_seen(
    app: Flask, ids: dict[str, Any], mailed: dict[str, str], visit: Visit, axe: str
) -> None:
    faults = looked_at(visit.page("/login"), "login", axe)
    page = visit.logged_in()
    opened = {path: named(path) for path in paths(app, ids)}
    for path, name in (opened | {path: name for name, path in mailed.items()}).items():
        answer = page.goto(path)
        assert answer is not None
        assert (path, answer.status) == (path, 200)
        faults += looked_at(page, name, axe)

    assert faults == []
    assert visit.faults == []
    assert {f"/c/acme/webhooks/{ids['endpoint_id']}", f"/operator/stripe/rows/{ids['report_id']}"} <= opened.keys()


def named(path: str) -> str:
    return path.strip("/").replace("/", "_").replace("c_acme", "overview" if path == "/c/acme/" else "c")


def looked_at(page: Page, name: str, axe: str) -> list[str]:
    """What is wrong with the page that is open."""
    found = serious(page, axe)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        needed = page.evaluate("document.documentElement.scrollWidth")
        if needed > width:
            found.append(f"{name}: needs {needed} pixels of {width}")
    if folder := os.environ.get("METERING_SCREENSHOTS"):
        _picture(page, Path(folder) / name)
    page.set_viewport_size({"width": 1280, "height": 900})
    return found


def _picture(page: Page, name: Path) -> None:
    for width, theme in product(PICTURED, THEMES):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=theme)
        page.screenshot(path=f"{name}-{theme}-{width}.png", full_page=True)
    page.emulate_media(color_scheme="light")
