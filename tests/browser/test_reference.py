"""The pages about the API as people use them: found, opened, copied from; without scripts, on a phone, by keyboard."""

import pytest
from flask import Flask
from playwright.sync_api import Locator, Page, expect

from metering.api.openapi import routes
from tests.browser.conftest import Visit, serious

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

PAGES = ("/api/docs", "/problems/", "/problems/limit-exceeded")


def broken_paths(page: Page) -> int:
    """How many parts of paths are broken within: they may break after slashes alone."""
    parts: int = page.evaluate(
        "[...document.querySelectorAll('.path span')].filter(s => s.getClientRects().length > 1).length"
    )
    return parts


def check(page: Page) -> None:
    """Follow the contents to an operation: it unfolds, and says everything about itself."""
    page.get_by_role("navigation", name="Operations").get_by_role("link", name="POST /check").click()
    operation = page.locator("#usage_check")
    expect(operation).to_be_visible()
    expect(operation.get_by_text("quantities", exact=True).last).to_be_visible()
    expect(operation.get_by_text('curl -H "Authorization: Bearer $KEY"')).to_be_visible()
    expect(operation.get_by_role("link", name="not-authenticated")).to_be_visible()


def test_every_operation_is_found_and_nothing_is_complained_of(app: Flask, visit: Visit) -> None:
    page = visit.page("/api/docs")

    for route in routes(app):
        summary = page.locator("summary", has=page.get_by_text(route.method, exact=True))
        expect(summary.filter(has=page.get_by_text(route.template.path, exact=True))).to_be_visible()
    check(page)
    assert broken_paths(page) == 0
    assert visit.faults == []


def test_a_problem_leads_to_its_page_and_back(visit: Visit) -> None:
    page = visit.page("/api/docs#sample_ping")

    page.locator("#sample_ping").get_by_role("link", name="limit-exceeded").click()
    expect(page.get_by_role("heading", name="Limit exceeded")).to_be_visible()
    page.get_by_role("link", name="All problems").click()
    expect(page.get_by_role("link", name="limit-exceeded")).to_be_visible()
    page.get_by_role("link", name="API reference").click()
    expect(page.get_by_role("heading", name="Metering API")).to_be_visible()
    assert visit.faults == []


def test_a_curl_line_can_be_copied(visit: Visit) -> None:
    page = visit.page("/api/docs#sample_ping", permissions=["clipboard-read", "clipboard-write"])

    page.locator("#sample_ping").get_by_role("button", name="Copy").click()
    expect(page.locator("#sample_ping").get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == 'curl -H "Authorization: Bearer $KEY" $URL/api/v1/sample/ping'


def marked(page: Page) -> Locator:
    return page.get_by_role("navigation", name="Operations").locator("[aria-current]")


def test_the_contents_mark_what_was_asked_for(visit: Visit) -> None:
    """Also near the end of the page, where it cannot come to the top."""
    page = visit.page("/api/docs")

    for name in ("usage_check", "members_remove", "description_docs"):
        page.locator(f'.contents-entry[href="#{name}"]').click()

        expect(page.locator(f"#{name}")).to_be_in_viewport()
        expect(marked(page)).to_have_attribute("href", f"#{name}")
        expect(marked(page)).to_be_in_viewport()


def test_the_contents_follow_the_reader(visit: Visit) -> None:
    page = visit.page("/api/docs", reduced_motion="reduce")
    expect(marked(page)).to_have_count(0)
    page.locator('.contents-entry[href="#events_send"]').click()
    expect(marked(page)).to_have_attribute("href", "#events_send")

    page.keyboard.press("Shift")  # any: whoever uses keys or wheel moves on from what was asked for
    for name in ("meters_create", "usage_limit"):
        page.locator(".operation", has=page.locator(f"#{name}")).evaluate(
            "card => card.scrollIntoView({ block: 'start', behavior: 'instant' })"
        )
        expect(marked(page)).to_have_attribute("href", f"#{name}")


def test_it_works_without_scripts(visit: Visit) -> None:
    page = visit.page("/api/docs", java_script_enabled=False)

    check(page)
    expect(page.locator("#usage_check").get_by_role("button", name="Copy")).to_be_hidden()


def test_it_works_by_keyboard(visit: Visit) -> None:
    page = visit.page("/api/docs")

    page.locator("summary", has_text="/api/v1/estimate").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#usage_estimate")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.locator("#usage_estimate")).to_be_hidden()


@pytest.mark.parametrize("path", PAGES)
def test_a_phone_shows_it_without_scrolling_sideways(visit: Visit, path: str) -> None:
    page = visit.page(path, viewport={"width": 360, "height": 740})

    unfold(page)
    width = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1]


def test_axe_finds_nothing_serious(visit: Visit, axe: str) -> None:
    found = []
    for path in PAGES:
        page = visit.page(path)
        unfold(page)
        found += serious(page, axe)

    assert found == []
    assert visit.faults == []


def unfold(page: Page) -> None:
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
