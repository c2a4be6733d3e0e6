"""Subscriptions, as Stripe's API lets them be made, read, changed and ended. What time does to them is `billing_cycle`.

Source: Stripe's API reference, "Subscriptions", and its page "How subscriptions work".
"""

from __future__ import annotations

from typing import Any

from metering.stripe_sync.standin import billing_cycle, invoicing, item_changes
from metering.stripe_sync.standin.announcements import announce
from metering.stripe_sync.standin.charges import Charge, proration
from metering.stripe_sync.standin.customers import CUSTOMERS
from metering.stripe_sync.standin.endpoint import Call, Endpoint
from metering.stripe_sync.standin.errors import ApiError, missing_parameter, no_such
from metering.stripe_sync.standin.metadata import merged
from metering.stripe_sync.standin.pages import is_within, page
from metering.stripe_sync.standin.rules import parameters
from metering.stripe_sync.standin.store import Document
from metering.stripe_sync.standin.subscription_documents import ENDED, SUBSCRIPTIONS, in_period, interval, items, period
from metering.stripe_sync.standin.subscription_parameters import CANCEL, CREATE, LIST, RESUME, UPDATE
from metering.stripe_sync.standin.subscription_start import cancellation, first_charges, first_period
from metering.stripe_sync.standin.test_clocks import on_clock


def create(call: Call) -> Document:
    """Its first invoice is billed at once; while that is not paid the subscription is incomplete."""
    if "customer" not in call.params:
        raise missing_parameter("customer")
    customer = call.named(CUSTOMERS, "customer", call.params["customer"], param="customer")
    call = on_clock(call, customer)
    return start(call, customer, call.params)


def start(call: Call, customer: Document, params: dict[str, Any]) -> Document:
    """Also what a completed checkout does; `call` is at the customer's time."""
    subscription = first_period(call, customer, params)
    call.save(CUSTOMERS, {**customer, "currency": subscription["currency"]})
    call.save(SUBSCRIPTIONS, subscription)
    charges = first_charges(call, subscription, params)
    invoice = invoicing.draft(call, subscription, charges, "subscription_create", waits=False)
    behavior, due = params.get("payment_behavior"), invoice["amount_due"] if invoice else 0
    if due and behavior != "default_incomplete" and customer["metadata"].get("standin_payment") == "none":
        raise ApiError(
            "This customer has no attached payment source or default payment method. Please consider adding a "
            "default payment method.",
            code="resource_missing",
        )
    if due:
        invoicing.change_subscription(call, subscription["id"], status="incomplete")
    announce(call, "customer.subscription.created", _current(call, subscription))
    if invoice:
        opened = invoicing.finalize(call, invoice)
        if not (due and behavior == "default_incomplete"):
            invoicing.collect(call, opened)
    subscription = _current(call, subscription)
    if subscription["status"] == "incomplete" and behavior == "error_if_incomplete":
        raise ApiError("Your card was declined.", status=402, kind="card_error", code="card_declined")
    return subscription


def retrieve(call: Call) -> Document:
    return call.find(SUBSCRIPTIONS, "subscription")


def update(call: Call) -> Document:
    subscription, params = call.find(SUBSCRIPTIONS, "subscription"), call.params
    if subscription["status"] in ENDED and set(params) - {"cancellation_details", "metadata", "expand"}:
        raise ApiError("A canceled subscription can only update its cancellation_details and metadata.")
    call = on_clock(call, subscription)
    changed = _with(call, subscription, params)
    owed: list[Charge] = []
    if "items" in params:
        changed, owed = item_changes.apply(call, changed, params["items"])
    save_change(
        call,
        subscription,
        changed,
        owed,
        params.get("proration_behavior"),
        restarts=params.get("billing_cycle_anchor", {}).get("type") == "now",
    )
    if "trial_end" in params:
        _change_trial(call, changed["id"], params["trial_end"])
    return _current(call, changed)


def save_change(
    call: Call, before: Document, changed: Document, owed: list[Charge], behavior: str | None, *, restarts: bool = False
) -> None:
    """What a change owes goes to the next invoice, or with all that is pending to one at once, or is forgotten.

    A change of the billing interval starts a new period now, as does `billing_cycle_anchor`.
    """
    restarts = restarts or interval(call, before) != interval(call, changed)
    if restarts and before["status"] != "trialing":
        _restart(call, before, changed, owed, behavior)
        return
    owed = [*changed["_pending"], *([] if behavior == "none" else owed)]
    if behavior == "always_invoice" and owed:
        span = [period(changed)[0], call.timestamp]
        changed = call.save(SUBSCRIPTIONS, {**changed, "_pending": [], "_usage_period": span})
        invoicing.bill_at_once(call, changed, owed, "subscription_update")
    else:
        call.save(SUBSCRIPTIONS, {**changed, "_pending": owed})
    billing_cycle.announce_updated(call, changed["id"])


def _restart(call: Call, before: Document, changed: Document, owed: list[Charge], behavior: str | None) -> None:
    """What is left of the old period is given back, the new one is billed in full at once."""
    if behavior != "none":
        given = [
            proration(item, call.timestamp, period(before), credit=True)
            for item in items(before)
            if item.get("quantity")
        ]
        used = [charge for charge in owed if charge["kind"] == "usage"]
        changed = {**changed, "_pending": [*changed["_pending"], *given, *used]}
    billing_cycle.begin_period(call, changed, anchor=call.timestamp, by_hand=True)


def cancel(call: Call) -> Document:
    """At once. Usage that is not invoiced now is given up."""
    subscription = _alive(call)
    call = on_clock(call, subscription)
    details = {**subscription["cancellation_details"], **call.params.get("cancellation_details", {})}
    return billing_cycle.end(
        call,
        {**subscription, "cancellation_details": details},
        bills=call.params.get("invoice_now", False),
        prorates=call.params.get("prorate", False),
        by_hand=True,
    )


def resume(call: Call) -> Document:
    """Of a paused subscription only; its billing cycle starts anew."""
    subscription = _alive(call)
    if subscription["status"] != "paused":
        raise ApiError("You can only resume a subscription that is paused.")
    call = on_clock(call, subscription)
    billing_cycle.begin_period(call, subscription, anchor=call.timestamp, by_hand=True)
    resumed = _current(call, subscription)
    announce(call, "customer.subscription.resumed", resumed)
    return resumed


def list_all(call: Call) -> Document:
    """Newest first. Those of test clocks show only for their customer or their clock, ended ones only by status."""
    chosen = [one for one in reversed(call.all(SUBSCRIPTIONS)) if _is_chosen(one, call.params)]
    return page(chosen, call.path, call.params, "subscription")


def _is_chosen(subscription: Document, params: dict[str, Any]) -> bool:
    same = {name: params[name] for name in ("customer", "test_clock", "collection_method") if name in params}
    if "customer" not in params:
        same.setdefault("test_clock", None)
    wanted, status = params.get("status"), subscription["status"]
    start, end = period(subscription)
    times = {"created": subscription["created"], "current_period_start": start, "current_period_end": end}
    return (
        all(subscription[name] == value for name, value in same.items())
        and ("price" not in params or any(item["price"] == params["price"] for item in items(subscription)))
        and all(is_within(at, params.get(name, {})) for name, at in times.items())
        and {None: status != "canceled", "all": True, "ended": status in ENDED}.get(wanted, status == wanted)
    )


def _with(call: Call, subscription: Document, params: dict[str, Any]) -> Document:
    changed = {**subscription, "metadata": merged(subscription["metadata"], params.get("metadata"))}
    changed |= {name: params[name] for name in ("description", "trial_settings") if name in params}
    if "pause_collection" in params:
        paused = params["pause_collection"]
        changed["pause_collection"] = {"resumes_at": None, **paused} if paused else None
    details = {**subscription["cancellation_details"], **params.get("cancellation_details", {})}
    changed["cancellation_details"] = details
    return {**changed, **cancellation(call, changed, params)}


def _change_trial(call: Call, id: str, until: int | str) -> None:
    """A trial that ends now begins a paid period; one that ends at another time moves the billing cycle there."""
    subscription = call.get(SUBSCRIPTIONS, id)
    if subscription is None or subscription["status"] != "trialing":
        raise ApiError("The stand-in serves trial_end for subscriptions in trial only.", param="trial_end")
    if until == "now":
        ended = {**subscription, "trial_end": call.timestamp}
        billing_cycle.begin_period(call, ended, anchor=call.timestamp, by_hand=True)
        return
    if not isinstance(until, int) or until <= call.timestamp:
        raise ApiError("Invalid timestamp: must be an integer Unix timestamp in the future.", param="trial_end")
    moved = in_period(subscription, period(subscription)[0], until)
    cancel_at = until if subscription["cancel_at_period_end"] else subscription["cancel_at"]
    moved |= {"billing_cycle_anchor": until, "cancel_at": cancel_at, "trial_end": until, "_trial_end_told": False}
    call.save(SUBSCRIPTIONS, moved)
    billing_cycle.announce_updated(call, id)


def _alive(call: Call) -> Document:
    """The subscription in the path; one that has ended is not found."""
    subscription = call.find(SUBSCRIPTIONS, "subscription")
    if subscription["status"] in ENDED:
        raise no_such("subscription", subscription["id"])
    return subscription


def _current(call: Call, subscription: Document) -> Document:
    return call.get(SUBSCRIPTIONS, subscription["id"]) or subscription


_INSIDE = ("customer", "latest_invoice", "test_clock", "items.data.price.product", "items.data.price.tiers")
EXPANDABLE = frozenset({*_INSIDE, "latest_invoice.lines.data.pricing.price_details.price"})
_LISTED = frozenset(f"data.{path}" for path in _INSIDE if not path.startswith("items.data.price.product"))

ENDPOINTS = (
    Endpoint("POST", "/v1/subscriptions", CREATE, create, EXPANDABLE),
    Endpoint("GET", "/v1/subscriptions", LIST, list_all, _LISTED),
    Endpoint("GET", "/v1/subscriptions/<id>", parameters(), retrieve, EXPANDABLE),
    Endpoint("POST", "/v1/subscriptions/<id>", UPDATE, update, EXPANDABLE),
    Endpoint("DELETE", "/v1/subscriptions/<id>", CANCEL, cancel, EXPANDABLE),
    Endpoint("POST", "/v1/subscriptions/<id>/resume", RESUME, resume, EXPANDABLE),
)
