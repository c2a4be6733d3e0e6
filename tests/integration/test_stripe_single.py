"""No plan is bought twice, however many tabs are open and however late Stripe's messages are; what is doubled by hand
is told, and ended without a second bill.
"""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from flask import Flask
from sqlalchemy import select

from metering.models import AuditEntry
from metering.store.verify import verify
from tests.factories.people import Visitor
from tests.factories.shop import Shop

CLICKS = 6


@pytest.fixture
def app(stripe_app: Flask) -> Flask:
    return stripe_app


def running(shop: Shop) -> list[str]:
    return [one.id for one in shop.client.v1.subscriptions.list({"status": "active"}).data]


def open_checkouts(shop: Shop) -> list[str]:
    return [one.url for one in shop.client.v1.checkout.sessions.list({"status": "open"}).data]


def failed(shop: Shop) -> dict[str, list[str]]:
    shop.world.session.commit()
    checks = verify(shop.engine, shop.world.redis)
    return {one.name: [f"{d.customer} {d.detail}" for d in one.differences] for one in checks if not one.holds}


def command(app: Flask, *words: str) -> Any:
    return app.test_cli_runner().invoke(args=["metering", "stripe", *words])


def test_who_has_bought_is_sold_nothing_while_stripes_message_is_on_its_way(shop: Shop) -> None:
    shop.buy("pro")
    assert shop.plan() == "free"

    again = shop.press("checkout", plan="pro")

    assert (again.status_code, again.location) == (303, "/c/acme/plan")
    assert "You have a plan already" in shop.page().text
    assert shop.plan() == "pro", "nor need anybody wait for the message any more"
    assert (len(running(shop)), open_checkouts(shop)) == (1, [])


def test_of_several_tabs_the_newest_alone_can_be_paid(shop: Shop) -> None:
    first = shop.press("checkout", plan="pro").location
    second = shop.press("checkout", plan="enterprise").location

    assert open_checkouts(shop) == [second]
    assert "Pay" not in re.findall(r"<button[^>]*>([^<]*)", requests.get(first, timeout=20).text)
    shop.pay(second)
    shop.deliver()

    assert (shop.plan(), len(running(shop))) == ("enterprise", 1)


def test_of_clicks_at_once_one_leaves_a_checkout_open(app: Flask, shop: Shop) -> None:
    shop.press("checkout", plan="pro")
    visitors = [Visitor.of(app) for _ in range(CLICKS)]
    for visitor in visitors:
        visitor.log_in("owner@acme.example")

    def click(visitor: Visitor) -> str:
        return str(visitor.submit("/c/acme/plan", "/c/acme/plan/checkout", plan="pro").location)

    with ThreadPoolExecutor(CLICKS) as crowd:
        led = list(crowd.map(click, visitors))

    (left,) = open_checkouts(shop)
    assert left in led
    assert len(set(led)) == CLICKS


@pytest.fixture
def twins(shop: Shop) -> list[str]:
    """The ids of two running subscriptions of acme's; the second was made at Stripe by hand."""
    shop.buy("pro")
    shop.deliver()
    return shop.double()


def test_two_subscriptions_are_told_wherever_somebody_looks(app: Flask, shop: Shop, twins: list[str]) -> None:
    assert list(failed(shop)) == ["subscriptions"]
    assert all(id in failed(shop)["subscriptions"][0] for id in twins)
    assert f"billed twice: acme has {twins[0]} and {twins[1]}" in command(app, "status").output
    assert f"Several subscriptions run for you ({twins[0]}, {twins[1]})" in shop.page().text


@pytest.mark.parametrize("ended", [0, 1])
def test_either_of_two_is_ended_without_a_bill(app: Flask, shop: Shop, twins: list[str], ended: int) -> None:
    shop.world.record(shop.world.event(quantity=20_000, id="calls"))
    shop.world.drain()
    invoices = len(shop.client.v1.invoices.list().data)

    done = command(app, "end-double", twins[ended], "--note", "made by hand")
    assert done.exit_code == 0, done.output
    shop.deliver()

    assert running(shop) == [twins[1 - ended]]
    assert len(shop.client.v1.invoices.list().data) == invoices, "its usage is the other one's to bill"
    assert (shop.plan(), failed(shop)) == ("pro", {})
    assert "Several subscriptions" not in shop.page().text
    command(app, "report", "--open-hours")
    compared = command(app, "reconcile")
    assert compared.exit_code == 0, compared.output
    entry = shop.world.session.scalars(select(AuditEntry).where(AuditEntry.action == "stripe.end_double")).one()
    assert entry.detail == {"subscription": twins[ended], "kept": [twins[1 - ended]], "note": "made by hand"}


def test_the_only_subscription_is_not_ended_so(app: Flask, shop: Shop) -> None:
    shop.buy("pro")
    shop.deliver()
    (only,) = running(shop)

    assert "is not one of several that run" in command(app, "end-double", only, "--note", "n").output
    assert "no subscription 'sub_none' is known" in command(app, "end-double", "sub_none", "--note", "n").output
    assert running(shop) == [only]
