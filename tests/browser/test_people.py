"""People in a browser: from signing up to the first key, and from an invitation to pages that change nothing."""

import re

import pyotp
import pytest
from flask import Flask
from playwright.sync_api import expect

from tests.browser.conftest import Visit, serious
from tests.factories.mails import link_to
from tests.factories.people import PASSWORD, make_user
from tests.factories.world import World

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def test_from_signing_up_to_the_first_key(world: World, app: Flask, visit: Visit, axe: str) -> None:
    page = visit.page("/login", color_scheme="dark")
    page.get_by_role("link", name="Create an account").click()
    found = serious(page, axe)
    page.get_by_label("Your name").fill("Ada")
    page.get_by_label("Organization").fill("Initech")
    page.get_by_label("Email").fill("ada@initech.example")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_role("heading", name="Check your email")).to_be_visible()
    found += serious(page, axe)

    page.goto(link_to(world.session, "ada@initech.example"))
    found += serious(page, axe)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Confirm and log in").click()
    page.wait_for_url("**/c/initech/")
    page.get_by_role("link", name="API keys").click()
    page.get_by_label("Name").fill("First")
    page.get_by_role("button", name="Create key").click()
    expect(page.locator("#new-key")).to_have_text(re.compile("^mk_"))
    found += serious(page, axe)

    for path in ("/c/initech/team", "/c/initech/settings", "/account"):
        page.goto(path)
        found += serious(page, axe)
        page.set_viewport_size({"width": 360, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
        page.set_viewport_size({"width": 1280, "height": 800})
    page.locator("#two-step-password").fill(PASSWORD)
    page.get_by_role("button", name="Set it up").click()
    found += serious(page, axe)
    key = page.locator("#totp-key").inner_text().replace(" ", "")
    page.get_by_label("Code that the app shows").fill(pyotp.TOTP(key).at(world.now))
    page.get_by_role("button", name="Turn it on").click()
    expect(page.get_by_text("not shown again")).to_be_visible()
    found += serious(page, axe)
    assert found == []
    assert visit.faults == []


def test_who_is_invited_joins_without_scripts_and_changes_nothing(
    world: World, app: Flask, visit: Visit, axe: str
) -> None:
    make_user(world, "owner@acme.example", world.customer("acme", "pro"))
    page = visit.logged_in()
    page.goto("/c/acme/team")
    page.get_by_label("Email").fill("vera@acme.example")
    page.get_by_label("Role", exact=True).select_option("viewer")
    page.get_by_role("button", name="Send invitation").click()
    expect(page.get_by_text("vera@acme.example is invited.")).to_be_visible()
    found = serious(page, axe)

    invited = visit.page(link_to(world.session, "vera@acme.example"), java_script_enabled=False)
    invited.get_by_label("Your name").fill("Vera")
    invited.get_by_label("Choose a password").fill(PASSWORD)
    invited.get_by_role("button", name="Join").click()
    invited.wait_for_url("**/c/acme/")
    for name in ("Team", "API keys", "Settings"):
        invited.get_by_role("link", name=name, exact=True).click()
        expect(invited.get_by_role("heading", name=name, exact=True)).to_be_visible()
        assert invited.locator("main form").count() == 0, name
    assert found == []
    assert visit.faults == []
