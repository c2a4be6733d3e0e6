"""Checkout and the billing portal of the stand-in: made through Stripe's library, used as a browser without scripts."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import requests
import stripe

from tests.factories.receiver import Receiver
from tests.factories.standin import DAY, HOUR, InProcessStandin, StandinProcess, make_meter

SUCCESS = "http://app.example/back?session={CHECKOUT_SESSION_ID}"
NOW = 1_800_000_000
CANCEL = "http://app.example/plans"


@pytest.fixture(scope="module")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandinProcess]:
    process = StandinProcess(tmp_path_factory.mktemp("standin") / "store")
    yield process
    process.kill()


@pytest.fixture(scope="module")
def client(standin: StandinProcess) -> stripe.StripeClient:
    return standin.client()


@pytest.fixture(scope="module")
def product(client: stripe.StripeClient) -> str:
    return client.v1.products.create({"name": "Pro <plan>"}).id


@pytest.fixture(scope="module")
def base(client: stripe.StripeClient, product: str) -> str:
    return client.v1.prices.create(
        {"product": product, "currency": "usd", "unit_amount": 4900, "recurring": {"interval": "month"}}
    ).id


@pytest.fixture(scope="module")
def metered(client: stripe.StripeClient, product: str) -> str:
    meter = make_meter(client, "api_call")
    recurring: Any = {"interval": "month", "usage_type": "metered", "meter": meter.id}
    price = client.v1.prices.create(
        {"product": product, "currency": "usd", "unit_amount_decimal": "0.1", "recurring": recurring}  # type: ignore[typeddict-item]
    )
    return price.id


@pytest.fixture
def customer(client: stripe.StripeClient) -> str:
    return client.v1.customers.create({"name": "Ada", "email": "ada@example.com"}).id


@pytest.fixture
def checkout(client: stripe.StripeClient, base: str, metered: str, customer: str) -> Any:
    """A function that opens a checkout for the customer; parameters change or take out (None) what it sends."""

    def open_checkout(**changed: Any) -> stripe.checkout.Session:
        params: Any = {
            "mode": "subscription",
            "customer": customer,
            "line_items": [{"price": base, "quantity": 1}, {"price": metered}],
            "success_url": SUCCESS,
            "cancel_url": CANCEL,
            **changed,
        }
        return client.v1.checkout.sessions.create({k: v for k, v in params.items() if v is not None})  # type: ignore[arg-type]

    return open_checkout


def get(url: str | None) -> requests.Response:
    assert url
    return requests.get(url, timeout=20)


def press(url: str | None, label: str) -> requests.Response:
    """Presses the button of a page as a browser does, without following where that leads."""
    page = get(url)
    for form in re.findall(r"<form.*?</form>", page.text, re.DOTALL):
        if label in unescape(form):
            action = re.search(r'action="([^"]+)"', form)
            target = requests.compat.urljoin(page.url, unescape(action[1])) if action else page.url
            return requests.post(target, timeout=20, allow_redirects=False)
    raise AssertionError(f"no button {label}: {page.text}")


def announced(client: stripe.StripeClient, about: str) -> list[str]:
    """The types of the events about an object, oldest first."""
    events = client.v1.events.list({"limit": 100}).data
    return [event.type for event in events if event.data.object.id == about][::-1]


class TestCheckout:
    def test_paying_makes_the_subscription_announces_it_and_leads_back(self, client, checkout, customer):
        session = checkout(
            client_reference_id="acme",
            metadata={"plan": "pro"},
            subscription_data={"metadata": {"customer_key": "acme"}, "description": "Pro"},
        )
        assert (session.status, session.payment_status, session.subscription) == ("open", "unpaid", None)
        assert (session.amount_total, session.customer) == (4900, customer)

        back = press(session.url, "Pay $49.00")

        assert (back.status_code, back.headers["Location"]) == (
            303,
            SUCCESS.replace("{CHECKOUT_SESSION_ID}", session.id),
        )
        paid = client.v1.checkout.sessions.retrieve(session.id, {"expand": ["subscription", "line_items"]})
        assert (paid.status, paid.payment_status, paid.client_reference_id, paid.url) == (
            "complete",
            "paid",
            "acme",
            None,
        )
        subscription = paid.subscription
        assert (subscription.status, subscription.customer, subscription.description) == ("active", customer, "Pro")
        assert subscription.metadata.to_dict() == {"customer_key": "acme"}
        assert subscription.latest_invoice == paid.invoice
        assert [line.amount_total for line in paid.line_items.data] == [4900, 0]
        assert announced(client, session.id) == ["checkout.session.completed"]
        assert announced(client, subscription.id)[0] == "customer.subscription.created"
        invoice = client.v1.invoices.retrieve(paid.invoice)
        assert (invoice.status, invoice.total) == ("paid", 4900)

    def test_paying_twice_buys_once(self, client, checkout, customer, standin):
        session = checkout()
        page = standin.raw("POST", f"/c/pay/{session.id}", allow_redirects=False)
        again = standin.raw("POST", f"/c/pay/{session.id}", allow_redirects=False)

        assert page.headers["Location"] == again.headers["Location"]
        assert len(client.v1.subscriptions.list({"customer": customer}).data) == 1
        assert announced(client, session.id) == ["checkout.session.completed"]

    def test_a_declined_payment_buys_nothing_and_can_be_tried_again(self, client, checkout, customer):
        client.v1.customers.update(customer, {"metadata": {"standin_payment": "fail"}})
        session = checkout()

        page = press(session.url, "Pay")

        assert page.status_code == 402
        assert "declined" in page.text
        assert client.v1.checkout.sessions.retrieve(session.id).status == "open"
        assert client.v1.subscriptions.list({"customer": customer, "status": "all"}).data == []
        client.v1.customers.update(customer, {"metadata": {"standin_payment": ""}})
        assert press(session.url, "Pay").status_code == 303

    def test_whoever_has_no_customer_yet_gets_one(self, client, checkout):
        session = checkout(customer=None, customer_email="new@example.com")
        assert (session.customer, session.customer_details.email) == (None, "new@example.com")

        press(session.url, "Pay")

        paid = client.v1.checkout.sessions.retrieve(session.id, {"expand": ["customer"]})
        assert paid.customer.email == "new@example.com"

    def test_a_trial_costs_nothing_today(self, client, checkout):
        session = checkout(subscription_data={"trial_period_days": 14})
        assert "Free for 14 days" in get(session.url).text

        press(session.url, "subscribe")

        paid = client.v1.checkout.sessions.retrieve(session.id, {"expand": ["subscription"]})
        assert (paid.payment_status, paid.subscription.status) == ("no_payment_required", "trialing")

    def test_what_a_customer_of_a_test_clock_buys_starts_by_that_clock(self, client, checkout):
        frozen = int(time.time()) + 400 * DAY
        clock = client.v1.test_helpers.test_clocks.create({"frozen_time": frozen}).id
        customer = client.v1.customers.create({"test_clock": clock}).id
        session = checkout(customer=customer)

        press(session.url, "Pay")

        paid = client.v1.checkout.sessions.retrieve(session.id, {"expand": ["subscription"]})
        assert paid.subscription["items"].data[0].current_period_start == frozen
        assert client.v1.subscriptions.retrieve(paid.subscription.id).test_clock == clock

    def test_the_page_shows_what_is_bought_escaped_and_lets_nothing_foreign_in(self, checkout):
        page = get(checkout().url)

        assert "Pro &lt;plan&gt;" in page.text
        assert "billed by usage, per month" in page.text
        assert f'href="{CANCEL}"' in page.text
        policy = page.headers["Content-Security-Policy"]
        assert "form-action 'self' http://app.example;" in policy
        assert "default-src 'none'" in policy
        assert "<script" not in page.text
        assert "style=" not in page.text

    def test_an_expired_session_sells_nothing(self, client, checkout, customer):
        session = checkout()
        assert client.v1.checkout.sessions.expire(session.id).status == "expired"

        page = requests.post(session.url, timeout=20)

        assert page.status_code == 400
        assert "expired" in page.text
        assert client.v1.subscriptions.list({"customer": customer}).data == []
        assert announced(client, session.id) == ["checkout.session.expired"]
        with pytest.raises(stripe.InvalidRequestError, match="status of expired"):
            client.v1.checkout.sessions.expire(session.id)

    def test_sessions_are_listed_by_customer_status_and_subscription(self, client, checkout, customer):
        first, second = checkout(), checkout()
        press(first.url, "Pay")
        subscription = client.v1.checkout.sessions.retrieve(first.id).subscription

        def ids(**params: Any) -> list[str]:
            return [one.id for one in client.v1.checkout.sessions.list({"customer": customer, **params}).data]

        assert ids() == [second.id, first.id]
        assert ids(status="open") == [second.id]
        assert ids(subscription=subscription) == [first.id]
        lines = client.v1.checkout.sessions.line_items.list(first.id).data
        assert [(line.quantity, line.price.recurring.usage_type) for line in lines] == [
            (1, "licensed"),
            (None, "metered"),
        ]

    def test_what_can_not_be_sold_is_refused(self, client, checkout, base, metered, product):
        once = client.v1.prices.create({"product": product, "currency": "usd", "unit_amount": 100}).id
        euro = client.v1.prices.create(
            {"product": product, "currency": "eur", "unit_amount": 100, "recurring": {"interval": "month"}}
        ).id
        gone = client.v1.prices.create(
            {
                "product": product,
                "currency": "usd",
                "unit_amount": 1,
                "recurring": {"interval": "month"},
                "active": False,
            }
        ).id
        for changed, param in (
            ({"line_items": [{"price": "price_none", "quantity": 1}]}, "line_items[0][price]"),
            ({"line_items": [{"price": gone, "quantity": 1}]}, "line_items[0][price]"),
            ({"line_items": [{"price": once, "quantity": 1}]}, "line_items[0][price]"),
            ({"line_items": [{"price": metered, "quantity": 1}]}, "line_items[0][quantity]"),
            ({"line_items": [{"price": base}]}, "line_items[0][quantity]"),
            ({"line_items": [{"price": base, "quantity": 1}, {"price": euro, "quantity": 1}]}, "line_items"),
            ({"line_items": None}, "line_items"),
            ({"mode": "payment"}, "mode"),
            ({"success_url": None}, "success_url"),
            ({"success_url": "javascript:alert(1)"}, "success_url"),
            ({"customer": "cus_none"}, "customer"),
            ({"customer_email": "a@example.com"}, "customer"),
            ({"expires_at": 1}, "expires_at"),
            ({"subscription_data": {"trial_end": 1}}, "subscription_data[trial_end]"),
            ({"subscription_data": {"trial_end": 1, "trial_period_days": 1}}, "subscription_data[trial_end]"),
            ({"colour": "red"}, "colour"),
        ):
            with pytest.raises(stripe.InvalidRequestError) as refused:
                checkout(**changed)
            assert refused.value.param == param, changed

    def test_an_unknown_page_is_not_found(self, standin):
        assert standin.raw("GET", "/c/pay/cs_test_none").status_code == 404
        assert standin.raw("POST", "/c/pay/cs_test_none").status_code == 404


class TestPortal:
    @pytest.fixture
    def subscription(self, client, base, metered, customer) -> str:
        return client.v1.subscriptions.create({"customer": customer, "items": [{"price": base}, {"price": metered}]}).id

    @pytest.fixture
    def portal(self, client, customer) -> stripe.billing_portal.Session:
        return client.v1.billing_portal.sessions.create({"customer": customer, "return_url": CANCEL})

    def test_a_subscription_is_cancelled_at_the_end_of_its_period_and_renewed(self, client, portal, subscription):
        press(portal.url, "Cancel at the end of the period")

        ending = client.v1.subscriptions.retrieve(subscription)
        assert (ending.status, ending.cancel_at_period_end) == ("active", True)
        assert "Ends on" in get(portal.url).text

        press(portal.url, "Don’t cancel")

        assert client.v1.subscriptions.retrieve(subscription).cancel_at_period_end is False
        assert announced(client, subscription).count("customer.subscription.updated") >= 2

    def test_invoices_and_the_way_back_are_shown(self, client, portal, subscription):
        page = get(portal.url).text

        invoice = client.v1.invoices.list({"subscription": subscription}).data[0]
        assert invoice.number in page
        assert "$49.00" in page
        assert f'href="{CANCEL}"' in page

    def test_updating_the_payment_method_makes_a_customer_pay_again(self, client, customer, portal):
        client.v1.customers.update(customer, {"metadata": {"standin_payment": "fail", "key": "acme"}})

        press(portal.url, "Update")

        assert client.v1.customers.retrieve(customer).metadata.to_dict() == {"key": "acme"}

    def test_a_portal_opens_its_own_customer_alone(self, client, standin, base, portal):
        stranger = client.v1.customers.create().id
        theirs = client.v1.subscriptions.create({"customer": stranger, "items": [{"price": base}]}).id

        assert requests.post(f"{portal.url}/subscriptions/{theirs}/cancel", timeout=20).status_code == 404

        assert client.v1.subscriptions.retrieve(theirs).cancel_at_period_end is False
        assert theirs not in get(portal.url).text
        assert standin.raw("GET", f"/p/session/{portal.id}").status_code == 404

    def test_what_can_not_be_is_refused(self, client):
        for params, param in (
            ({}, "customer"),
            ({"customer": "cus_none"}, "customer"),
            ({"customer": "cus_none", "return_url": "here"}, "return_url"),
        ):
            with pytest.raises(stripe.InvalidRequestError) as refused:
                client.v1.billing_portal.sessions.create(params)
            assert refused.value.param == param


def test_an_open_session_expires_by_the_clock_at_its_very_second(tmp_path: Path):
    standin = InProcessStandin(tmp_path, NOW)
    client = standin.client()
    product = client.v1.products.create({"name": "Pro"}).id
    price = client.v1.prices.create(
        {"product": product, "currency": "usd", "unit_amount": 1, "recurring": {"interval": "month"}}
    ).id
    params: Any = {"mode": "subscription", "line_items": [{"price": price, "quantity": 1}], "success_url": SUCCESS}
    session = client.v1.checkout.sessions.create({**params, "expires_at": NOW + HOUR})

    standin.now = NOW + HOUR - 1
    assert client.v1.checkout.sessions.retrieve(session.id).status == "open"
    standin.now = NOW + DAY
    assert client.v1.checkout.sessions.retrieve(session.id).status == "expired"

    (event,) = client.v1.events.list({"type": "checkout.session.expired"}).data
    standin.close()
    assert (event.data.object.id, event.created) == (session.id, NOW + HOUR)


def test_the_overview_shows_customers_subscriptions_invoices_events_and_deliveries(standin, client, checkout, customer):
    receiver = Receiver()
    endpoint = client.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["*"]})
    session = checkout()
    press(session.url, "Pay")
    receiver.wait_for(1)

    page = standin.raw("GET", "/_standin/")

    paid = client.v1.checkout.sessions.retrieve(session.id, {"expand": ["invoice"]})
    client.v1.webhook_endpoints.delete(endpoint.id)
    receiver.close()
    for shown in (
        customer,
        paid.subscription,
        paid.invoice.number,
        "checkout.session.completed",
        receiver.url,
        "$49.00",
    ):
        assert shown in page.text, shown
    assert "style=" not in page.text
    assert "<script" not in page.text
