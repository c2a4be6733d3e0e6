"""An alert's whole way: an endpoint is added, usage crosses a threshold, and it is seen, mailed and posted."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from playwright.sync_api import expect
from sqlalchemy import select

from metering.embedded import Addresses
from metering.models import Mail
from metering.notify.deliveries import send_waiting
from tests.browser.conftest import Visit, serious
from tests.conftest import running_app
from tests.factories.hooks import HookReceiver
from tests.factories.people import make_user
from tests.factories.world import World

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


@pytest.fixture
def app(world: World, servers: Addresses, tmp_path: Path) -> Iterator[Flask]:
    """The product where webhooks may go to this machine."""
    addresses = {"database_url": servers.database_url, "redis_url": servers.redis_url}
    with running_app(world, tmp_path, **addresses, webhooks_to_loopback=True) as app:
        yield app


def test_an_alert_fires_is_shown_mailed_and_posted(app: Flask, world: World, visit: Visit, axe: str) -> None:
    receiver = HookReceiver()
    make_user(world, "owner@acme.example", world.customer("acme", "free"))
    page = visit.logged_in()
    page.get_by_role("link", name="Alerts", exact=True).click()
    page.get_by_role("textbox", name="At").fill("30")
    page.get_by_role("button", name="Add threshold").click()
    expect(page.get_by_text("The threshold is saved")).to_be_visible()
    page.get_by_role("link", name="Webhooks").click()
    page.get_by_label("Address").fill(receiver.url)
    page.get_by_role("button", name="Add endpoint").click()
    expect(page.locator("#new-secret")).to_contain_text("whsec_")
    assert serious(page, axe) == []

    world.record(world.event(quantity=300))
    page.get_by_role("link", name="Overview", exact=True).click()
    expect(page.get_by_text("API calls: 30% of the limit used", exact=True)).to_be_visible()
    page.get_by_role("link", name="Alerts", exact=True).click()
    for _ in range(200):  # the keeper of the site writes it down in a moment
        if page.get_by_role("cell", name="30%", exact=True).is_visible():
            break
        page.reload()
    assert send_waiting(app.extensions["metering"].runtime) == 1
    assert receiver.hooks[0].event["type"] == "alert.crossed"
    world.session.rollback()
    assert world.session.scalars(select(Mail.recipient)).all() == ["owner@acme.example"]

    page.get_by_role("link", name="Webhooks").click()
    page.get_by_role("link", name=receiver.url).click()
    page.locator(".delivery summary").click()
    expect(page.get_by_text("Status 204")).to_be_visible()
    assert serious(page, axe) == []
    assert visit.faults == []
    receiver.close()
