"""The shape of a subscription and its items, and what can be read off them.

All items of a subscription here have the same billing interval, so they share one current period.
Source: Stripe's API reference, "Subscriptions" and "Subscription Items".
"""

from __future__ import annotations

from typing import Any

from metering.stripe_sync.standin.charges import Charge, charge
from metering.stripe_sync.standin.endpoint import Call, new_id
from metering.stripe_sync.standin.prices import PRICES
from metering.stripe_sync.standin.store import Document

SUBSCRIPTIONS = "subscription"
ENDED = ("canceled", "incomplete_expired")


def new_subscription(customer: Document, created: int, params: dict[str, Any]) -> Document:
    id = new_id("sub", 24)
    return {
        "id": id,
        "object": "subscription",
        "_pending": [],
        "_trial_end_told": False,
        "_upcoming_told": None,
        "_usage_period": [created, created],
        "application": None,
        "application_fee_percent": None,
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor": created,
        "billing_cycle_anchor_config": None,
        "billing_mode": {"flexible": {"proration_discounts": "included"}, "type": "flexible"},
        "billing_schedules": [],
        "billing_thresholds": None,
        "cancel_at": None,
        "cancel_at_period_end": False,
        "canceled_at": None,
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "collection_method": "charge_automatically",
        "created": created,
        "currency": None,
        "customer": customer["id"],
        "customer_account": None,
        "days_until_due": None,
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": params.get("description"),
        "discounts": [],
        "ended_at": None,
        "invoice_settings": {
            "account_tax_ids": None,
            "custom_fields": None,
            "description": None,
            "footer": None,
            "issuer": {"type": "self"},
        },
        "items": {
            "object": "list",
            "data": [],
            "has_more": False,
            "url": f"/v1/subscription_items?subscription={id}",
        },
        "latest_invoice": None,
        "livemode": False,
        "managed_payments": {"enabled": False},
        "metadata": {},
        "next_pending_invoice_item_invoice": None,
        "on_behalf_of": None,
        "pause_collection": None,
        "payment_settings": {
            "payment_method_options": None,
            "payment_method_types": None,
            "save_default_payment_method": "off",
        },
        "pending_invoice_item_interval": None,
        "pending_setup_intent": None,
        "pending_update": None,
        "schedule": None,
        "start_date": created,
        "status": "active",
        "test_clock": customer["test_clock"],
        "transfer_data": None,
        "trial_end": None,
        "trial_settings": params.get("trial_settings", {"end_behavior": {"missing_payment_method": "create_invoice"}}),
        "trial_start": None,
    }


def new_item(subscription: Document, price: Document, sent: dict[str, Any], created: int) -> Document:
    """A metered item has no quantity; a licensed one has 1 unless told otherwise."""
    item = {
        "id": new_id("si"),
        "object": "subscription_item",
        "_usage_from": created,
        "billing_thresholds": None,
        "created": created,
        "current_period_end": created,
        "current_period_start": created,
        "discounts": [],
        "metadata": sent.get("metadata", {}),
        "price": price["id"],
        "subscription": subscription["id"],
        "tax_rates": [],
    }
    return item if is_metered(price) else {**item, "quantity": sent.get("quantity", 1)}


def is_metered(price: Document) -> bool:
    return bool(price["recurring"]["usage_type"] == "metered")


def items(subscription: Document) -> list[Document]:
    found: list[Document] = subscription["items"]["data"]
    return found


def with_items(subscription: Document, data: list[Document]) -> Document:
    return {**subscription, "items": {**subscription["items"], "data": data}}


def in_period(subscription: Document, start: int, end: int) -> Document:
    """The subscription with this current period, of which no usage is billed yet."""
    period = {"current_period_start": start, "current_period_end": end, "_usage_from": start}
    return with_items(subscription, [{**item, **period} for item in items(subscription)])


def period(subscription: Document) -> tuple[int, int]:
    first = items(subscription)[0]
    return first["current_period_start"], first["current_period_end"]


def price_of(call: Call, item: Document) -> Document:
    price = call.get(PRICES, item["price"])
    if price is None:
        raise LookupError(item["price"])
    return price


def interval(call: Call, subscription: Document) -> tuple[str, int]:
    recurring = price_of(call, items(subscription)[0])["recurring"]
    return recurring["interval"], recurring["interval_count"]


def usage_charges(subscription: Document, until: int) -> list[Charge]:
    """For the usage that no invoice has billed yet. What is used during a trial or a pause is free."""
    if subscription["status"] in ("trialing", "paused"):
        return []
    return [
        charge("usage", item, item["_usage_from"], until)
        for item in items(subscription)
        if "quantity" not in item and item["_usage_from"] < until
    ]


def licensed_charges(subscription: Document, start: int, end: int, kind: str = "licensed") -> list[Charge]:
    return [charge(kind, item, start, end) for item in items(subscription) if "quantity" in item]
