"""The pages that the stand-in hosts, in a browser that obeys their content security policy."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from tests.factories.receiver import Receiver
from tests.factories.standin import StandinProcess

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def test_paying_leads_back_to_another_origin_without_scripts_and_the_portal_cancels(
    browser: Browser, standin: StandinProcess
) -> None:
    client, product_site = standin.client(), Receiver()
    product = client.v1.products.create({"name": "Pro"}).id
    price = client.v1.prices.create(
        {"product": product, "currency": "usd", "unit_amount": 4900, "recurring": {"interval": "month"}}
    ).id
    customer = client.v1.customers.create({"name": "Ada"}).id
    session = client.v1.checkout.sessions.create(
        {
            "mode": "subscription",
            "customer": customer,
            "line_items": [{"price": price, "quantity": 1}],
            "success_url": product_site.url + "?session={CHECKOUT_SESSION_ID}",
        }
    )
    portal = client.v1.billing_portal.sessions.create({"customer": customer})
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()

    page.goto(str(session.url))
    page.get_by_role("button", name="Pay $49.00").click()
    page.wait_for_url(f"{product_site.url}?session={session.id}")
    page.goto(portal.url)
    page.get_by_role("button", name="Cancel at the end of the period").click()

    assert page.get_by_role("status").inner_text() == "Your subscription ends with its current period."
    (subscription,) = client.v1.subscriptions.list({"customer": customer}).data
    context.close()
    product_site.close()
    assert (subscription.status, subscription.cancel_at_period_end) == ("active", True)
