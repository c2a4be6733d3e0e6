"""Checkout sessions for a subscription: a page on which a customer pays, and what came of it.

Source: Stripe's API reference, "Checkout Sessions". Of the modes only `subscription` is served, of the user interfaces
only the hosted page.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from metering.stripe_sync.standin.announcements import announce
from metering.stripe_sync.standin.checkout_parameters import CREATE, LINE_ITEMS, LIST
from metering.stripe_sync.standin.customers import CUSTOMERS
from metering.stripe_sync.standin.endpoint import Call, Endpoint, new_id
from metering.stripe_sync.standin.errors import ApiError, missing_parameter
from metering.stripe_sync.standin.pages import is_created_in, page
from metering.stripe_sync.standin.prices import PRICES
from metering.stripe_sync.standin.pricing import parts
from metering.stripe_sync.standin.products import PRODUCTS
from metering.stripe_sync.standin.rules import parameters
from metering.stripe_sync.standin.store import Document

CHECKOUT_SESSIONS = "checkout.session"
SESSION_ID_LENGTH = 58
LIFETIME_SECONDS = 24 * 3600
SHORTEST_SECONDS = 30 * 60
SHORTEST_TRIAL_SECONDS = 48 * 3600

_EXPANDABLE = frozenset(("customer", "invoice", "line_items", "line_items.data.price.product", "subscription"))


def create(call: Call) -> Document:
    params = call.params
    _check(call)
    id = new_id("cs_test", SESSION_ID_LENGTH)
    lines = [_line(call, sent, place) for place, sent in enumerate(params["line_items"])]
    currencies = {line["currency"] for line in lines}
    if len(currencies) > 1 or params.get("currency", *currencies) not in currencies:
        raise ApiError("All prices of a Checkout Session must have the same currency.", param="line_items")
    total = 0 if _has_trial(params) else sum(line["amount_total"] for line in lines)
    session = {
        **_NOTHING,
        "id": id,
        "amount_subtotal": total,
        "amount_total": total,
        "cancel_url": params.get("cancel_url"),
        "client_reference_id": params.get("client_reference_id"),
        "created": call.timestamp,
        "currency": currencies.pop(),
        "customer": params.get("customer"),
        "customer_creation": None if "customer" in params else "always",
        "customer_details": _details(call),
        "customer_email": params.get("customer_email"),
        "expires_at": params.get("expires_at", call.timestamp + LIFETIME_SECONDS),
        "line_items": {
            "object": "list",
            "data": lines,
            "has_more": False,
            "url": f"/v1/checkout/sessions/{id}/line_items",
        },
        "locale": params.get("locale"),
        "metadata": params.get("metadata", {}),
        "payment_method_collection": params.get("payment_method_collection", "always"),
        "payment_status": "unpaid",
        "success_url": params["success_url"],
        "url": f"{call.base_url}c/pay/{id}",
        "_subscription_data": params.get("subscription_data", {}),
    }
    return call.save(CHECKOUT_SESSIONS, session)


def retrieve(call: Call) -> Document:
    return call.find(CHECKOUT_SESSIONS, "checkout.session")


def list_all(call: Call) -> Document:
    newest_first = reversed(call.all(CHECKOUT_SESSIONS))
    return page((one for one in newest_first if _is_chosen(one, call.params)), call.path, call.params, "session")


def line_items(call: Call) -> Document:
    return page(retrieve(call)["line_items"]["data"], call.path, call.params, "line item")


def expire(call: Call) -> Document:
    session = retrieve(call)
    if session["status"] != "open":
        raise ApiError(
            'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a status of '
            f"{session['status']}."
        )
    return _expired(call, session)


def due(session: Document) -> int | None:
    return session["expires_at"] if session["status"] == "open" else None


def end_in_time(call: Call, noun: str, id: str) -> None:
    """What happens to an open session when its time is over."""
    _expired(call, call.named(noun, "checkout.session", id, param="id"))


def _expired(call: Call, session: Document) -> Document:
    ended = call.save(CHECKOUT_SESSIONS, {**session, "status": "expired", "url": None})
    announce(call, "checkout.session.expired", ended)
    return ended


def _check(call: Call) -> None:
    params = call.params
    for name in ("mode", "line_items", "success_url"):
        if not params.get(name):
            raise missing_parameter(name)
    if "customer" in params:
        call.named(CUSTOMERS, "customer", params["customer"], param="customer")
        if "customer_email" in params:
            raise ApiError("You may only specify one of these parameters: customer, customer_email.", param="customer")
    expires = params.get("expires_at", call.timestamp + LIFETIME_SECONDS)
    if not call.timestamp + SHORTEST_SECONDS <= expires <= call.timestamp + LIFETIME_SECONDS:
        raise ApiError(
            "The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout Session creation.",
            param="expires_at",
        )
    data = params.get("subscription_data", {})
    if "trial_end" in data and "trial_period_days" in data:
        raise ApiError("`trial_end` and `trial_period_days` can't both be set.", param="subscription_data[trial_end]")
    if data.get("trial_end", call.now + SHORTEST_TRIAL_SECONDS) < call.now + SHORTEST_TRIAL_SECONDS:
        raise ApiError(
            "The `trial_end` date has to be at least 2 days in the future.", param="subscription_data[trial_end]"
        )


def _line(call: Call, sent: dict[str, Any], place: int) -> Document:
    """A metered price has no quantity and costs nothing now; every other one needs a quantity."""
    where = f"line_items[{place}]"
    if "price" not in sent:
        raise missing_parameter(f"{where}[price]")
    price = call.named(PRICES, "price", sent["price"], param=f"{where}[price]")
    if not price["active"]:
        raise ApiError(
            f"The price specified is inactive. This field only accepts active prices: {price['id']}.",
            param=f"{where}[price]",
        )
    if not price["recurring"]:
        raise ApiError("The stand-in serves recurring prices only.", param=f"{where}[price]")
    metered = price["recurring"]["usage_type"] == "metered"
    if metered and "quantity" in sent:
        raise ApiError("You cannot specify `quantity` for a metered price.", param=f"{where}[quantity]")
    if not metered and "quantity" not in sent:
        raise ApiError("Quantity is required. Add `quantity` to the line item.", param=f"{where}[quantity]")
    amount = 0 if metered else sum(part.amount for part in parts(price, Decimal(sent["quantity"])))
    product = call.named(PRODUCTS, "product", price["product"], param=f"{where}[price]")
    return {
        "id": new_id("li", 24),
        "object": "item",
        "adjustable_quantity": None,
        "amount_discount": 0,
        "amount_subtotal": amount,
        "amount_tax": 0,
        "amount_total": amount,
        "currency": price["currency"],
        "description": product["name"],
        "metadata": {},
        "price": price["id"],
        "quantity": sent.get("quantity"),
    }


def _has_trial(params: dict[str, Any]) -> bool:
    return not {"trial_end", "trial_period_days"}.isdisjoint(params.get("subscription_data", {}))


def customer_details(customer: Document) -> Document:
    shown = ("address", "email", "name", "phone", "tax_exempt")
    return {
        "business_name": None,
        "individual_name": None,
        "tax_ids": None,
        **{name: customer[name] for name in shown},
    }


def _details(call: Call) -> Document | None:
    """What is known of the customer before it pays."""
    email = call.params.get("customer_email")
    if known := call.get(CUSTOMERS, call.params.get("customer", "")):
        return customer_details(known)
    unknown = {"address": None, "email": email, "name": None, "phone": None, "tax_exempt": "none"}
    return customer_details(unknown) if email else None


def _is_chosen(session: Document, params: dict[str, Any]) -> bool:
    details = params.get("customer_details")
    return (
        all(params.get(name) in (None, session[name]) for name in ("customer", "status", "subscription"))
        and (details is None or (session["customer_details"] or {}).get("email") == details["email"])
        and is_created_in(session, params)
    )


# A session's fields that nothing here fills.
_NOTHING: Document = {
    "object": CHECKOUT_SESSIONS,
    "adaptive_pricing": {"enabled": False},
    "after_expiration": None,
    "allow_promotion_codes": None,
    "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
    "billing_address_collection": None,
    "client_secret": None,
    "collected_information": None,
    "consent": None,
    "consent_collection": None,
    "currency_conversion": None,
    "custom_fields": [],
    "custom_text": {
        "after_submit": None,
        "shipping_address": None,
        "submit": None,
        "terms_of_service_acceptance": None,
    },
    "customer_account": None,
    "discounts": [],
    "integration_identifier": None,
    "invoice": None,
    "invoice_creation": None,
    "livemode": False,
    "managed_payments": {"enabled": False},
    "mode": "subscription",
    "origin_context": None,
    "payment_intent": None,
    "payment_link": None,
    "payment_method_configuration_details": None,
    "payment_method_options": {},
    "payment_method_types": ["card"],
    "permissions": None,
    "phone_number_collection": {"enabled": False},
    "recovered_from": None,
    "saved_payment_method_options": None,
    "setup_intent": None,
    "shipping_address_collection": None,
    "shipping_cost": None,
    "shipping_options": [],
    "status": "open",
    "submit_type": None,
    "subscription": None,
    "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
    "ui_mode": "hosted_page",
    "wallet_options": None,
}

_PATH = "/v1/checkout/sessions"
ENDPOINTS = (
    Endpoint("POST", _PATH, CREATE, create, _EXPANDABLE),
    Endpoint("GET", _PATH, LIST, list_all, frozenset(f"data.{name}" for name in _EXPANDABLE)),
    Endpoint("GET", f"{_PATH}/<id>", parameters(), retrieve, _EXPANDABLE),
    Endpoint("POST", f"{_PATH}/<id>/expire", parameters(), expire, _EXPANDABLE),
    Endpoint("GET", f"{_PATH}/<id>/line_items", LINE_ITEMS, line_items, frozenset(("data.price.product",))),
)
