"""The usage page in a browser: a choice takes effect at once, stands in the address, and the back button undoes it."""

import re

import pytest
from flask import Flask
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.factories.people import make_user
from tests.factories.world import World

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


@pytest.fixture(autouse=True)
def acme(world: World, app: Flask) -> None:
    make_user(world, "owner@acme.example", world.customer("acme", "pro"))
    for model in ("large", "small"):
        world.record(world.event(meter="tokens", quantity=900, properties={"model": model}))
    world.drain()


def test_a_choice_is_shown_and_taken_back(visit: Visit) -> None:
    page = visit.logged_in()
    page.get_by_role("link", name="Usage", exact=True).click()
    expect(page.get_by_role("button", name="Show")).to_be_hidden()
    page.get_by_label("Meter").select_option(label="Tokens")
    expect(page).to_have_url(re.compile(r"meter=tokens"))
    page.get_by_label("Group").select_option(label="Model")
    expect(page).to_have_url(re.compile(r"group=model"))
    expect(page.locator(".legend").get_by_text("large")).to_be_visible()
    expect(page.locator("canvas")).to_be_visible()
    page.get_by_role("button", name="Switch between light and dark").click()

    page.go_back()

    expect(page).to_have_url(re.compile(r"meter=tokens&(?!.*group=model)"))
    expect(page.locator(".legend")).to_be_hidden()
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert "1800" in download.value.path().read_text("utf-8")
    assert visit.faults == []


def test_without_scripts_the_table_says_it_all(visit: Visit) -> None:
    page = visit.logged_in(java_script_enabled=False)
    page.goto("/c/acme/usage")
    page.get_by_label("Meter").select_option(label="Tokens")
    page.get_by_role("button", name="Show").click()
    page.get_by_label("Group").select_option(label="Model")
    page.get_by_role("button", name="Show").click()
    row = page.get_by_role("row", name="Nov 10")
    expect(row.get_by_role("cell")).to_have_text(["900", "900", "1.8K", ""])
    expect(page.locator("canvas")).to_be_hidden()
