"""The parameters of checkout sessions. Source: Stripe's API reference, "Checkout Sessions".

`locale`, `payment_method_collection` and the like, which change nothing about the page here, are taken where every
value of theirs comes to what the page does; whatever else is not obeyed is refused.
"""

from __future__ import annotations

from metering.stripe_sync.standin.destinations import Url
from metering.stripe_sync.standin.metadata import NEW_METADATA
from metering.stripe_sync.standin.pages import CREATED, PAGE_PARAMETERS
from metering.stripe_sync.standin.rules import Choice, Flag, Integer, Many, Record, Text, parameters, unserved

_LINE_ITEM = Record(
    {
        "metadata": NEW_METADATA,
        "price": Text(),
        "quantity": Integer(1, 999_999),
        **unserved("adjustable_quantity", "price_data", "tax_rates"),
    }
)
_TRIAL_SETTINGS = Record(
    {
        "end_behavior": Record(
            {"missing_payment_method": Choice(("cancel", "create_invoice", "pause"))},
            required=("missing_payment_method",),
        )
    },
    required=("end_behavior",),
)
_SUBSCRIPTION_DATA = Record(
    {
        "billing_cycle_anchor": Integer(0),
        "description": Text(500),
        "metadata": NEW_METADATA,
        "proration_behavior": Choice(("create_prorations", "none")),
        "trial_end": Integer(0),
        "trial_period_days": Integer(1, 730),
        "trial_settings": _TRIAL_SETTINGS,
        **unserved(
            "application_fee_percent",
            "billing_cycle_anchor_config",
            "billing_mode",
            "default_tax_rates",
            "invoice_settings",
            "on_behalf_of",
            "pending_invoice_item_interval",
            "transfer_data",
        ),
    }
)

CREATE = parameters(
    {
        "allow_promotion_codes": Flag(),
        "billing_address_collection": Choice(("auto", "required")),
        "cancel_url": Url(),
        "client_reference_id": Text(200),
        "currency": Text(3),
        "customer": Text(),
        "customer_email": Text(800),
        "expires_at": Integer(),
        "line_items": Many(_LINE_ITEM),
        "locale": Text(10),
        "metadata": NEW_METADATA,
        "mode": Choice(("subscription",)),
        "payment_method_collection": Choice(("always", "if_required")),
        "subscription_data": _SUBSCRIPTION_DATA,
        "success_url": Url(),
        "ui_mode": Choice(("hosted_page",)),
        **unserved(
            "adaptive_pricing",
            "after_expiration",
            "allowed_payment_method_types",
            "automatic_tax",
            "branding_settings",
            "consent_collection",
            "custom_fields",
            "custom_text",
            "customer_account",
            "customer_creation",
            "customer_update",
            "discounts",
            "excluded_payment_method_types",
            "integration_identifier",
            "invoice_creation",
            "managed_payments",
            "name_collection",
            "optional_items",
            "origin_context",
            "payment_intent_data",
            "payment_method_configuration",
            "payment_method_data",
            "payment_method_options",
            "permissions",
            "phone_number_collection",
            "redirect_on_completion",
            "return_url",
            "saved_payment_method_options",
            "setup_intent_data",
            "shipping_address_collection",
            "shipping_options",
            "submit_type",
            "tax_id_collection",
            "wallet_options",
        ),
    }
)
LIST = parameters(
    {
        "created": CREATED,
        "customer": Text(),
        "customer_details": Record({"email": Text(800)}, required=("email",)),
        "status": Choice(("complete", "expired", "open")),
        "subscription": Text(),
        **PAGE_PARAMETERS,
        **unserved("customer_account", "payment_intent", "payment_link"),
    }
)
LINE_ITEMS = parameters(PAGE_PARAMETERS)
