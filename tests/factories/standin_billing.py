"""Prices, subscriptions and their time in the stand-in, made with Stripe's own client."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import stripe

MONTHLY = {"interval": "month"}


def at(text: str) -> int:
    """Unix seconds of an ISO time in UTC: `2027-01-31` or `2027-01-31T12:00`."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def shown(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M")


class Shop:
    """One product whose prices a customer with a test clock of its own subscribes to."""

    def __init__(self, client: stripe.StripeClient, now: int) -> None:
        self.client = client
        self.clock = client.v1.test_helpers.test_clocks.create({"frozen_time": now}).id
        self.product = client.v1.products.create({"name": "API"}).id
        self.customer = self.new_customer()

    def new_customer(self, **more: Any) -> str:
        params: Any = {"name": "Ada", "test_clock": self.clock, **more}
        return self.client.v1.customers.create(params).id

    def price(self, **more: Any) -> str:
        """Licensed and monthly unless told otherwise."""
        params: Any = {"currency": "usd", "product": self.product, "recurring": MONTHLY, **more}
        return self.client.v1.prices.create(params).id

    def metered(self, meter: str, **more: Any) -> str:
        return self.price(recurring={**MONTHLY, "usage_type": "metered", "meter": meter}, **more)

    def graduated(self, meter: str, *tiers: dict[str, Any]) -> str:
        return self.metered(meter, billing_scheme="tiered", tiers_mode="graduated", tiers=list(tiers))

    def subscribe(self, *prices: str | dict[str, Any], **more: Any) -> stripe.Subscription:
        items = [{"price": price} if isinstance(price, str) else price for price in prices]
        params: Any = {"customer": self.customer, "items": items, **more}
        return self.client.v1.subscriptions.create(params)

    def update(self, subscription: stripe.Subscription, **params: Any) -> stripe.Subscription:
        changes: Any = params
        return self.client.v1.subscriptions.update(subscription.id, changes)

    def fresh(self, subscription: stripe.Subscription) -> stripe.Subscription:
        return self.client.v1.subscriptions.retrieve(subscription.id)

    def pass_to(self, text: str) -> None:
        """Moves the customer's clock."""
        self.client.v1.test_helpers.test_clocks.advance(self.clock, {"frozen_time": at(text)})
        assert self.client.v1.test_helpers.test_clocks.retrieve(self.clock).status == "ready"

    def set_payment(self, how: str) -> None:
        """`fail`, `none`, or "" for a customer that pays."""
        self.client.v1.customers.update(self.customer, {"metadata": {"standin_payment": how}})

    def invoices(self, **filters: Any) -> list[stripe.Invoice]:
        """Oldest first."""
        params: Any = {"customer": self.customer, **filters}
        return list(self.client.v1.invoices.list(params).data)[::-1]

    def events(self, *types: str) -> list[str]:
        """The types of what was announced, oldest first, of those that start as said."""
        found = [event.type for event in self.client.v1.events.list({"limit": 100}).auto_paging_iter()]
        return [type for type in found[::-1] if type.startswith(types)]


def item(subscription: stripe.Subscription, place: int = 0) -> stripe.SubscriptionItem:
    found: stripe.SubscriptionItem = subscription["items"].data[place]
    return found


def span(subscription: stripe.Subscription) -> tuple[str, str]:
    first = item(subscription)
    return shown(first.current_period_start), shown(first.current_period_end)


def billed(invoice: stripe.Invoice) -> list[tuple[str | None, int]]:
    return [(line.description, line.amount) for line in invoice.lines.data]
