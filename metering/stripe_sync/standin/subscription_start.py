"""How a subscription starts: its first period, a trial before it, and what its first invoice bills.

Source: Stripe's pages "Set the subscription billing renewal date" and "Use trial periods on subscriptions".
"""

from __future__ import annotations

from typing import Any

from metering.stripe_sync.standin import item_changes
from metering.stripe_sync.standin.charges import Charge, charge
from metering.stripe_sync.standin.endpoint import Call
from metering.stripe_sync.standin.errors import ApiError
from metering.stripe_sync.standin.metadata import merged
from metering.stripe_sync.standin.periods import DAY_SECONDS, boundary
from metering.stripe_sync.standin.store import Document
from metering.stripe_sync.standin.subscription_documents import (
    in_period,
    interval,
    items,
    licensed_charges,
    new_subscription,
    period,
)


def first_period(call: Call, customer: Document, params: dict[str, Any]) -> Document:
    """A subscription that starts now: in trial until the trial's end, else in a period until its anchor or a full one.

    The anchor is the end of the trial, else the one that was sent, else now.
    """
    now = call.timestamp
    subscription = new_subscription(customer, now, params)
    subscription["metadata"] = merged({}, params.get("metadata"))
    subscription = item_changes.with_first_items(call, subscription, params.get("items"))
    _check_currency(customer, subscription, params)
    trial_end, kind = _trial_end(params, now), interval(call, subscription)
    if trial_end is not None:
        trial = {"billing_cycle_anchor": trial_end, "status": "trialing", "trial_end": trial_end, "trial_start": now}
        subscription = in_period({**subscription, **trial}, now, trial_end)
    else:
        anchor = _anchor(params, now, kind)
        end = anchor if anchor > now else boundary(anchor, *kind, 1)
        subscription = in_period({**subscription, "billing_cycle_anchor": anchor}, now, end)
    return {**subscription, **cancellation(call, subscription, params)}


def first_charges(call: Call, subscription: Document, params: dict[str, Any]) -> list[Charge]:
    """Licensed items for the first period, in full or for the time up to the anchor; in trial for nothing."""
    start, end = period(subscription)
    if subscription["status"] == "trialing":
        return licensed_charges(subscription, start, end, "trial")
    if subscription["billing_cycle_anchor"] == start:
        return licensed_charges(subscription, start, end)
    if params.get("proration_behavior") == "none":
        return []
    whole = end - boundary(end, *interval(call, subscription), -1)
    return [
        {**charge("proration", item, start, end), "of": [end - start, whole], "credit": False}
        for item in items(subscription)
        if item.get("quantity")
    ]


def cancellation(call: Call, subscription: Document, params: dict[str, Any]) -> dict[str, Any]:
    """The fields that say when a subscription is to end, after what the parameters say of it."""
    if "cancel_at" in params and "cancel_at_period_end" in params:
        raise ApiError("You may only specify one of these parameters: cancel_at, cancel_at_period_end.")
    if not {"cancel_at", "cancel_at_period_end"} & set(params):
        return {}
    at_end = params.get("cancel_at_period_end", False)
    at = period(subscription)[1] if at_end else params.get("cancel_at")
    if at is not None and at <= call.timestamp:
        raise ApiError("`cancel_at` must be a timestamp in the future.", param="cancel_at")
    reason = None if at is None else "cancellation_requested"
    return {
        "cancel_at": at,
        "cancel_at_period_end": at_end,
        "canceled_at": None if at is None else call.timestamp,
        "cancellation_details": {**subscription["cancellation_details"], "reason": reason},
    }


def _check_currency(customer: Document, subscription: Document, params: dict[str, Any]) -> None:
    currency = subscription["currency"]
    if params.get("currency", currency) != currency:
        raise ApiError(f"The price specified only supports `{currency}`.", param="currency")
    if customer["currency"] not in (None, currency):
        raise ApiError(
            "You cannot combine currencies on a single customer. This customer has an active subscription, "
            f"subscription schedule, discount, quote, or invoice item with currency {customer['currency']}"
        )


def _trial_end(params: dict[str, Any], now: int) -> int | None:
    if "trial_end" in params and "trial_period_days" in params:
        raise ApiError("You may only specify one of these parameters: trial_end, trial_period_days.", param="trial_end")
    if "trial_period_days" in params:
        return now + int(params["trial_period_days"]) * DAY_SECONDS
    until = params.get("trial_end")
    if until is None or until == "now":
        return None
    if until <= now:
        raise ApiError("Invalid timestamp: must be an integer Unix timestamp in the future.", param="trial_end")
    return int(until)


def _anchor(params: dict[str, Any], now: int, kind: tuple[str, int]) -> int:
    anchor = int(params.get("billing_cycle_anchor", now))
    latest = boundary(now, *kind, 1)
    if anchor < now:
        raise ApiError("`billing_cycle_anchor` must be a timestamp in the future.", param="billing_cycle_anchor")
    if anchor > latest:
        raise ApiError(
            f"`billing_cycle_anchor` cannot be later than next natural billing date ({latest}) for plan.",
            param="billing_cycle_anchor",
        )
    return anchor
