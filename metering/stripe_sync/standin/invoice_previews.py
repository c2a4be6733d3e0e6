"""Invoice previews: what a subscription's next invoice would be, or its last one if it were cancelled now.

Like the event summaries, a preview knows an event only after the settable delay.
Source: Stripe's API reference, "Create a preview invoice".
"""

from __future__ import annotations

from metering.stripe_sync.standin import billing_cycle, invoicing
from metering.stripe_sync.standin.customers import CUSTOMERS
from metering.stripe_sync.standin.endpoint import Call, Endpoint
from metering.stripe_sync.standin.errors import ApiError, missing_parameter
from metering.stripe_sync.standin.rules import Choice, Flag, Record, Text, parameters, unserved
from metering.stripe_sync.standin.store import Document
from metering.stripe_sync.standin.subscription_documents import ENDED, SUBSCRIPTIONS, period, usage_charges
from metering.stripe_sync.standin.test_clocks import on_clock

_CREATE = parameters(
    {
        "customer": Text(),
        "preview_mode": Choice(("next",)),
        "subscription": Text(),
        "subscription_details": Record(
            {
                "cancel_now": Flag(),
                **unserved(
                    "billing_cycle_anchor",
                    "billing_mode",
                    "billing_schedules",
                    "cancel_at",
                    "cancel_at_period_end",
                    "default_tax_rates",
                    "items",
                    "metadata",
                    "pause",
                    "proration_behavior",
                    "proration_date",
                    "resume_at",
                    "start_date",
                    "trial_end",
                ),
            }
        ),
        **unserved(
            "automatic_tax",
            "currency",
            "customer_account",
            "customer_details",
            "discounts",
            "invoice_items",
            "issuer",
            "on_behalf_of",
            "schedule",
            "schedule_details",
        ),
    }
)


def create(call: Call) -> Document:
    subscription = _subscription(call)
    known_at = call.now - call.summary_delay_seconds
    bound = on_clock(call, subscription)
    if call.params.get("subscription_details", {}).get("cancel_now"):
        charges = [*subscription["_pending"], *usage_charges(subscription, bound.timestamp)]
    else:
        charges = billing_cycle.charges_at_period_end(bound, subscription)
    invoice = invoicing.upcoming(bound, subscription, charges, known_at)
    if invoice is None:
        raise _none(subscription["customer"])
    return invoice


def _subscription(call: Call) -> Document:
    """The one that was named, else the customer's one whose period ends first."""
    customer, id = call.params.get("customer"), call.params.get("subscription")
    if customer is None and id is None:
        raise missing_parameter("customer")
    if customer is not None:
        call.named(CUSTOMERS, "customer", customer, param="customer")
    if id is None:
        found = [one for one in call.all(SUBSCRIPTIONS) if one["customer"] == customer and _is_billed(one)]
        if not found:
            raise _none(customer)
        return min(found, key=period)
    subscription = call.named(SUBSCRIPTIONS, "subscription", id, param="subscription")
    if customer not in (None, subscription["customer"]):
        raise ApiError(f"The subscription {id} does not belong to the customer {customer}.", param="subscription")
    if not _is_billed(subscription):
        raise _none(subscription["customer"])
    return subscription


def _is_billed(subscription: Document) -> bool:
    return subscription["status"] not in (*ENDED, "paused")


def _none(customer: str | None) -> ApiError:
    return ApiError(f"No upcoming invoices for customer: {customer}", status=404, code="invoice_upcoming_none")


_EXPANDABLE = frozenset({"lines.data.pricing.price_details.price"})

ENDPOINTS = (Endpoint("POST", "/v1/invoices/create_preview", _CREATE, create, _EXPANDABLE),)
