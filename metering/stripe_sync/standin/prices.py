"""Prices: what cannot be changed once made, but for whether it is active and what it is called.

A metered price hangs on a meter. A lookup key belongs to one price. Source: Stripe's API reference, "Prices".
"""

from __future__ import annotations

from typing import Any

from metering.stripe_sync.standin.amounts import AMOUNT_PARAMETERS, amounts
from metering.stripe_sync.standin.announcements import announce
from metering.stripe_sync.standin.endpoint import Call, Endpoint, new_id
from metering.stripe_sync.standin.errors import ApiError, missing_parameter
from metering.stripe_sync.standin.metadata import METADATA, NEW_METADATA, merged
from metering.stripe_sync.standin.meters import METERS
from metering.stripe_sync.standin.pages import CREATED, PAGE_PARAMETERS, is_created_in, page
from metering.stripe_sync.standin.products import PRODUCTS, new_product
from metering.stripe_sync.standin.rules import (
    Choice,
    Flag,
    Integer,
    Many,
    Record,
    Rule,
    Text,
    parameters,
    unserved,
)
from metering.stripe_sync.standin.store import Document

PRICES = "price"
MAX_LOOKUP_KEYS = 10

_INTERVAL = Choice(("day", "month", "week", "year"))
_USAGE_TYPE = Choice(("licensed", "metered"))
_LONGEST = {"day": 1095, "week": 156, "month": 36, "year": 3}
_RECURRING = Record(
    {
        "interval": _INTERVAL,
        "interval_count": Integer(1),
        "meter": Text(),
        "usage_type": _USAGE_TYPE,
        **unserved("trial_period_days"),
    },
    required=("interval",),
)
_PRODUCT_DATA = Record(
    {
        "active": Flag(),
        "id": Text(),
        "metadata": NEW_METADATA,
        "name": Text(250),
        "statement_descriptor": Text(22),
        "unit_label": Text(12),
        **unserved("tax_code", "tax_details"),
    },
    required=("name",),
)
_SHARED: dict[str, Rule] = {
    "active": Flag(),
    "lookup_key": Text(200),
    "nickname": Text(),
    "tax_behavior": Choice(("exclusive", "inclusive", "unspecified")),
    "transfer_lookup_key": Flag(),
    **unserved("currency_options"),
}
_CREATE: dict[str, Rule] = {
    **_SHARED,
    **AMOUNT_PARAMETERS,
    "currency": Text(3, pattern="[a-z]{3}"),
    "metadata": NEW_METADATA,
    "product": Text(),
    "product_data": _PRODUCT_DATA,
    "recurring": _RECURRING,
    **unserved("custom_unit_amount"),
}
_UPDATE: dict[str, Rule] = {**_SHARED, "metadata": METADATA}
_LIST: dict[str, Rule] = {
    "active": Flag(),
    "created": CREATED,
    "currency": Text(),
    "lookup_keys": Many(Text(200)),
    "product": Text(),
    "recurring": Record({"interval": _INTERVAL, "meter": Text(), "usage_type": _USAGE_TYPE}),
    "type": Choice(("one_time", "recurring")),
    **PAGE_PARAMETERS,
}


def create(call: Call) -> Document:
    params = call.params
    taken = amounts(params)
    recurring = _recurring(call, params["recurring"]) if "recurring" in params else None
    new: Document = {
        "id": new_id("price", 24),
        "object": "price",
        "active": params.get("active", True),
        "created": call.timestamp,
        "currency": params["currency"],
        "custom_unit_amount": None,
        "livemode": False,
        "lookup_key": None,
        "metadata": merged({}, params.get("metadata")),
        "nickname": params.get("nickname"),
        "product": _product(call),
        "recurring": recurring,
        "tax_behavior": params.get("tax_behavior", "unspecified"),
        "type": "recurring" if recurring else "one_time",
        **taken,
    }
    price = call.save(PRICES, _with_lookup_key(call, new))
    announce(call, "price.created", price)
    return price


def retrieve(call: Call) -> Document:
    return call.find(PRICES, "price")


def update(call: Call) -> Document:
    price, params = call.find(PRICES, "price"), call.params
    if params.get("tax_behavior", price["tax_behavior"]) != price["tax_behavior"] != "unspecified":
        raise ApiError("You cannot change the tax behavior of a price once it is set.", param="tax_behavior")
    sent: Document = {name: params[name] for name in ("active", "nickname", "tax_behavior") if name in params}
    named = _with_lookup_key(call, {**price, **sent, "metadata": merged(price["metadata"], params.get("metadata"))})
    changed = call.save(PRICES, named)
    announce(call, "price.updated", changed)
    return changed


def list_all(call: Call) -> Document:
    keys = call.params.get("lookup_keys")
    if keys and len(keys) > MAX_LOOKUP_KEYS:
        raise ApiError(f"You may specify at most {MAX_LOOKUP_KEYS} lookup keys.", param="lookup_keys")
    chosen = [price for price in reversed(call.all(PRICES)) if _is_chosen(price, call.params)]
    return page(chosen, call.path, call.params, "price")


def _is_chosen(price: Document, params: dict[str, Any]) -> bool:
    plain = {name: params[name] for name in ("active", "currency", "product", "type") if name in params}
    recurring = price["recurring"] or {}
    return (
        all(price[name] == value for name, value in plain.items())
        and all(recurring.get(name) == value for name, value in params.get("recurring", {}).items())
        and ("lookup_keys" not in params or price["lookup_key"] in params["lookup_keys"])
        and is_created_in(price, params)
    )


def _product(call: Call) -> str:
    """The product's id; a price with `product_data` makes its product in the same commit."""
    given = [name for name in ("product", "product_data") if name in call.params]
    if not given:
        raise missing_parameter("product")
    if len(given) > 1:
        raise ApiError("You may only specify one of these parameters: product, product_data.", param="product")
    if "product_data" in call.params:
        return str(new_product(call, call.params["product_data"])["id"])
    return str(call.named(PRODUCTS, "product", call.params["product"], param="product")["id"])


def _recurring(call: Call, sent: dict[str, Any]) -> Document:
    usage_type, meter = sent.get("usage_type", "licensed"), sent.get("meter")
    if usage_type == "metered" and meter is None:
        raise ApiError("Metered prices must be backed by meters. Please specify a meter.", param="recurring[meter]")
    if usage_type == "licensed" and meter is not None:
        raise ApiError("A meter can only be specified when usage_type is `metered`.", param="recurring[meter]")
    if meter and call.named(METERS, "meter", meter, param="recurring[meter]")["status"] != "active":
        raise ApiError(f"The meter {meter} is not active.", param="recurring[meter]")
    count = sent.get("interval_count", 1)
    if count > _LONGEST[sent["interval"]]:
        raise ApiError("The billing interval can be at most three years.", param="recurring[interval_count]")
    return {
        "interval": sent["interval"],
        "interval_count": count,
        "meter": meter,
        "trial_period_days": None,
        "usage_type": usage_type,
    }


def _with_lookup_key(call: Call, price: Document) -> Document:
    """The price with the key that was sent, taken from the price that has it if that was asked for."""
    key = call.params.get("lookup_key")
    if key is None:
        return price
    holder = next((p for p in call.all(PRICES) if p["lookup_key"] == key and p["id"] != price["id"]), None)
    if holder and not call.params.get("transfer_lookup_key"):
        raise ApiError(f"A price (`{holder['id']}`) already uses that lookup key.", param="lookup_key")
    if holder:
        announce(call, "price.updated", call.save(PRICES, {**holder, "lookup_key": None}))
    return {**price, "lookup_key": key}


_EXPANDABLE = frozenset({"product", "tiers"})

ENDPOINTS = (
    Endpoint("POST", "/v1/prices", parameters(_CREATE, ("currency",)), create, _EXPANDABLE),
    Endpoint("GET", "/v1/prices", parameters(_LIST), list_all, frozenset({"data.product", "data.tiers"})),
    Endpoint("GET", "/v1/prices/<id>", parameters(), retrieve, _EXPANDABLE),
    Endpoint("POST", "/v1/prices/<id>", parameters(_UPDATE), update, _EXPANDABLE),
)
