"""The parameters of subscriptions and their items.

Source: Stripe's API reference, "Subscriptions" and "Subscription Items".
"""

from __future__ import annotations

from metering.stripe_sync.standin.metadata import METADATA, NEW_METADATA
from metering.stripe_sync.standin.pages import CREATED, PAGE_PARAMETERS
from metering.stripe_sync.standin.rules import (
    Choice,
    Flag,
    Integer,
    Many,
    Moment,
    Record,
    Rule,
    Text,
    parameters,
    unserved,
)

MAX_ITEMS = 20

_PRORATION = Choice(("always_invoice", "create_prorations", "none"))
_PAYMENT = Choice(("allow_incomplete", "default_incomplete", "error_if_incomplete"))
_FEEDBACK = Choice(
    (
        "customer_service",
        "low_quality",
        "missing_features",
        "other",
        "switched_service",
        "too_complex",
        "too_expensive",
        "unused",
    ),
    unset=True,
)
_DETAILS = Record({"comment": Text(unset=True), "feedback": _FEEDBACK, **unserved("feedback_option")})
_ITEM_UNSERVED = unserved("billing_thresholds", "current_trial", "discounts", "plan", "price_data", "tax_rates")
_ITEM: dict[str, Rule] = {"price": Text(), "quantity": Integer(0), **_ITEM_UNSERVED}
_TRIAL_SETTINGS = Record(
    {
        "end_behavior": Record(
            {
                "missing_payment_method": Choice(("cancel", "create_invoice", "pause")),
                **unserved("billing_cycle_anchor"),
            }
        )
    },
    required=("end_behavior",),
)
_UNSERVED = unserved(
    "add_invoice_items",
    "application_fee_percent",
    "automatic_tax",
    "billing_schedules",
    "billing_thresholds",
    "days_until_due",
    "default_payment_method",
    "default_source",
    "default_tax_rates",
    "discounts",
    "invoice_settings",
    "on_behalf_of",
    "payment_settings",
    "pending_invoice_item_interval",
    "transfer_data",
    "trial_from_plan",
)
_SHARED: dict[str, Rule] = {
    "cancel_at_period_end": Flag(),
    "collection_method": Choice(("charge_automatically",)),
    "description": Text(500, unset=True),
    "metadata": METADATA,
    "off_session": Flag(),
    "payment_behavior": _PAYMENT,
    "proration_behavior": _PRORATION,
    "trial_end": Moment(("now",)),
    "trial_settings": _TRIAL_SETTINGS,
    **_UNSERVED,
}

CREATE = parameters(
    {
        **_SHARED,
        "billing_cycle_anchor": Integer(0),
        "cancel_at": Moment(),
        "currency": Text(3),
        "customer": Text(),
        "items": Many(Record({**_ITEM, "metadata": NEW_METADATA})),
        "trial_period_days": Integer(1, 730),
        **unserved("backdate_start_date", "billing_cycle_anchor_config", "billing_mode", "customer_account"),
    }
)
UPDATE = parameters(
    {
        **_SHARED,
        "cancel_at": Moment(unset=True),
        "cancellation_details": _DETAILS,
        "items": Many(Record({**_ITEM, "clear_usage": Flag(), "deleted": Flag(), "id": Text(), "metadata": METADATA})),
        "pause_collection": Record(
            {"behavior": Choice(("keep_as_draft", "mark_uncollectible", "void")), "resumes_at": Integer(0)},
            required=("behavior",),
            unset=True,
        ),
        "billing_cycle_anchor": Record({"type": Choice(("now", "unchanged"))}, required=("type",)),
        **unserved("proration_date"),
    }
)
LIST = parameters(
    {
        "collection_method": Choice(("charge_automatically", "send_invoice")),
        "created": CREATED,
        "current_period_end": CREATED,
        "current_period_start": CREATED,
        "customer": Text(),
        "price": Text(),
        "status": Choice(
            (
                "active",
                "all",
                "canceled",
                "ended",
                "incomplete",
                "incomplete_expired",
                "past_due",
                "paused",
                "trialing",
                "unpaid",
            )
        ),
        "test_clock": Text(),
        **PAGE_PARAMETERS,
        **unserved("automatic_tax", "customer_account", "plan"),
    }
)
CANCEL = parameters({"cancellation_details": _DETAILS, "invoice_now": Flag(), "prorate": Flag()})
RESUME = parameters(
    {
        "billing_cycle_anchor": Record({"type": Choice(("now",))}, required=("type",)),
        "proration_behavior": _PRORATION,
        **unserved("payment_behavior", "proration_date"),
    }
)

_ITEM_CHANGE: dict[str, Rule] = {
    **_ITEM,
    "payment_behavior": _PAYMENT,
    "proration_behavior": _PRORATION,
    **unserved("proration_date"),
}
ITEM_CREATE = parameters({**_ITEM_CHANGE, "metadata": NEW_METADATA, "subscription": Text()}, required=("subscription",))
ITEM_UPDATE = parameters({**_ITEM_CHANGE, "metadata": METADATA, "off_session": Flag()})
ITEM_LIST = parameters({"subscription": Text(), **PAGE_PARAMETERS}, required=("subscription",))
ITEM_DELETE = Record(
    {
        "clear_usage": Flag(),
        "payment_behavior": _PAYMENT,
        "proration_behavior": _PRORATION,
        **unserved("proration_date"),
    }
)
