"""Customers. Source: Stripe's API reference, "Customers" and "Metadata"."""

from __future__ import annotations

import secrets
from typing import Any

from metering.stripe_sync.standin.announcements import announce
from metering.stripe_sync.standin.endpoint import Call, Endpoint, new_id
from metering.stripe_sync.standin.errors import no_such
from metering.stripe_sync.standin.metadata import METADATA, merged
from metering.stripe_sync.standin.pages import CREATED, PAGE_PARAMETERS, is_created_in, page
from metering.stripe_sync.standin.rules import (
    Choice,
    Flag,
    Integer,
    Many,
    Record,
    Rule,
    Text,
    parameters,
)
from metering.stripe_sync.standin.store import Document
from metering.stripe_sync.standin.test_clocks import TEST_CLOCKS, on_clock

CUSTOMERS = "customer"

_OPTIONAL = Text(unset=True)
_ADDRESS_LINES: dict[str, Rule] = dict.fromkeys(
    ("city", "country", "line1", "line2", "postal_code", "state"), _OPTIONAL
)
_CUSTOM_FIELD = Record({"name": Text(40), "value": Text(140)}, required=("name", "value"))

# What a customer shows of what was sent: answered as kept.
_KEPT: dict[str, Rule] = {
    "address": Record(_ADDRESS_LINES, unset=True),
    "balance": Integer(),
    "business_name": Text(150, unset=True),
    "description": _OPTIONAL,
    "email": Text(512, unset=True),
    "individual_name": Text(150, unset=True),
    "invoice_prefix": Text(pattern="[A-Z0-9]{1,12}"),
    "name": _OPTIONAL,
    "next_invoice_sequence": Integer(1),
    "phone": _OPTIONAL,
    "preferred_locales": Many(Text()),
    "shipping": Record(
        {"address": Record(_ADDRESS_LINES), "name": Text(), "phone": _OPTIONAL},
        ("address", "name"),
        unset=True,
    ),
    "tax_exempt": Choice(("none", "exempt", "reverse"), unset=True),
}
_INVOICE_SETTINGS = Record(
    {
        "custom_fields": Many(_CUSTOM_FIELD, unset=True),
        "default_payment_method": _OPTIONAL,
        "footer": _OPTIONAL,
        "rendering_options": Record(
            {
                "amount_tax_display": Choice(("exclude_tax", "include_inclusive_tax"), unset=True),
                "template": _OPTIONAL,
            },
            unset=True,
        ),
    }
)
# Of what these set, a customer shows nothing unless asked to expand it, and there is nothing here to expand.
_UNSHOWN: dict[str, Rule] = {
    "cash_balance": Record(
        {"settings": Record({"reconciliation_mode": Choice(("automatic", "manual", "merchant_default"))})}
    ),
    "tax": Record({"ip_address": _OPTIONAL, "validate_location": Choice(("auto", "deferred", "immediately"))}),
    "validate": Flag(),
}
_SHARED: dict[str, Rule] = {
    **_KEPT,
    **_UNSHOWN,
    "invoice_settings": _INVOICE_SETTINGS,
    "metadata": METADATA,
    "source": Text(),
}
_CREATE: dict[str, Rule] = {
    **_SHARED,
    "payment_method": Text(),
    "tax_id_data": Many(Record({"type": Text(), "value": Text()}, ("type", "value"))),
    "test_clock": Text(),
}
_UPDATE: dict[str, Rule] = {**_SHARED, "default_source": Text()}
# No payment methods and sources exist here, so whoever names one names one that isn't there.
_REFERENCES = {
    "payment_method": "PaymentMethod",
    "source": "source",
    "default_source": "source",
}


def create(call: Call) -> Document:
    """With a test clock the customer and all that it ever owns live by that clock's time."""
    clock = call.params.get("test_clock")
    if clock is not None:
        call.named(TEST_CLOCKS, "test clock", clock, param="test_clock")
    new: Document = {
        "id": new_id("cus"),
        "object": "customer",
        "address": None,
        "balance": 0,
        "created": call.timestamp,
        "currency": None,
        "default_source": None,
        "delinquent": False,
        "description": None,
        "discount": None,
        "email": None,
        "invoice_prefix": secrets.token_hex(4).upper(),
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": False,
        "metadata": {},
        "name": None,
        "next_invoice_sequence": 1,
        "phone": None,
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": clock,
    }
    call = on_clock(call, new)
    new["created"] = call.timestamp
    customer = call.save(CUSTOMERS, _with(new, call.params))
    announce(call, "customer.created", customer)
    return customer


def retrieve(call: Call) -> Document:
    return call.find(CUSTOMERS, "customer")


def update(call: Call) -> Document:
    customer = call.save(CUSTOMERS, _with(call.find(CUSTOMERS, "customer"), call.params))
    announce(call, "customer.updated", customer)
    return customer


def list_all(call: Call) -> Document:
    """Newest first; `email` is compared with its case. Those of a test clock show only when it is named."""
    clock, email = call.params.get("test_clock"), call.params.get("email")
    if clock is not None:
        call.named(TEST_CLOCKS, "test clock", clock, param="test_clock")
    chosen = [
        customer
        for customer in reversed(call.store.of(CUSTOMERS).values())
        if customer["test_clock"] == clock
        and email in (None, customer["email"])
        and is_created_in(customer, call.params)
    ]
    return page(chosen, call.path, call.params, "customer")


def _with(customer: Document, params: dict[str, Any]) -> Document:
    """The customer with what the parameters set. Metadata merges: an empty value takes a key out, "" takes all."""
    for name, noun in _REFERENCES.items():
        if name in params:
            raise no_such(noun, params[name], param=name)
    if (method := params.get("invoice_settings", {}).get("default_payment_method")) is not None:
        raise no_such("PaymentMethod", method, param="invoice_settings[default_payment_method]")
    changed = {**customer, **{name: value for name, value in params.items() if name in _KEPT}}
    changed["tax_exempt"] = changed["tax_exempt"] or "none"
    if changed["address"] is not None:
        changed["address"] = {**dict.fromkeys(_ADDRESS_LINES), **changed["address"]}
    changed["invoice_settings"] = {**customer["invoice_settings"], **params.get("invoice_settings", {})}
    return {**changed, "metadata": merged(customer["metadata"], params.get("metadata"))}


ENDPOINTS = (
    Endpoint("POST", "/v1/customers", parameters(_CREATE), create),
    Endpoint(
        "GET",
        "/v1/customers",
        parameters({"email": Text(512), "created": CREATED, "test_clock": Text(), **PAGE_PARAMETERS}),
        list_all,
    ),
    Endpoint("GET", "/v1/customers/<id>", parameters(), retrieve),
    Endpoint("POST", "/v1/customers/<id>", parameters(_UPDATE), update),
)
