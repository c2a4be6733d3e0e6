"""An operator's way in a browser: from what the first page says to the row that Stripe refused, and to its end."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit, serious
from tests.factories.console import sow_console
from tests.factories.people import make_user
from tests.factories.world import World

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


@pytest.mark.parametrize("scripts", [True, False])
def test_a_parked_row_is_found_and_retried(world: World, visit: Visit, axe: str, scripts: bool) -> None:
    make_user(world, "owner@acme.example", world.customer("acme", "pro"), operator=True)
    row = sow_console(world)["report_id"]
    page = visit.logged_in(java_script_enabled=scripts)

    page.goto("/operator")
    page.get_by_role("link", name="Stripe", exact=True).click()
    page.get_by_label("State").select_option("parked")
    page.get_by_role("button", name="Show").click()
    page.get_by_role("link", name="acme").click()
    if scripts:
        assert serious(page, axe) == []
    page.get_by_role("button", name=f"Retry row {row}").click()

    expect(page.get_by_text(f"Row {row} waits to be sent.")).to_be_visible()
    page.get_by_role("link", name="Audit log", exact=True).click()
    expect(page.get_by_text(f"let the row {row} be sent again")).to_be_visible()
    assert visit.faults == []
