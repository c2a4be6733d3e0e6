"""Products. Source: Stripe's API reference, "Products"."""

from __future__ import annotations

from typing import Any

from metering.stripe_sync.standin.announcements import announce
from metering.stripe_sync.standin.endpoint import Call, Endpoint, new_id
from metering.stripe_sync.standin.errors import ApiError
from metering.stripe_sync.standin.metadata import METADATA, NEW_METADATA, merged
from metering.stripe_sync.standin.pages import CREATED, PAGE_PARAMETERS, is_created_in, page
from metering.stripe_sync.standin.rules import Choice, Flag, Many, Record, Rule, Text, parameters, unserved
from metering.stripe_sync.standin.store import Document

PRODUCTS = "product"

_NAME = Text(250)
_STATEMENT_DESCRIPTOR = Text(22)
_TYPE = Choice(("good", "service"))
_FEATURES = Many(Record({"name": Text(80)}, ("name",)), unset=True)
_UNSERVED = unserved("package_dimensions", "tax_code", "tax_details")
_CREATE: dict[str, Rule] = {
    "active": Flag(),
    "description": Text(40_000),
    "id": Text(),
    "images": Many(Text()),
    "marketing_features": _FEATURES,
    "metadata": NEW_METADATA,
    "name": _NAME,
    "shippable": Flag(),
    "statement_descriptor": _STATEMENT_DESCRIPTOR,
    "type": _TYPE,
    "unit_label": Text(12),
    "url": Text(),
    **_UNSERVED,
    **unserved("default_price_data"),
}
_UPDATE: dict[str, Rule] = {
    "active": Flag(),
    "default_price": Text(),
    "description": Text(40_000, unset=True),
    "images": Many(Text(), unset=True),
    "marketing_features": _FEATURES,
    "metadata": METADATA,
    "name": _NAME,
    "shippable": Flag(),
    "statement_descriptor": _STATEMENT_DESCRIPTOR,
    "unit_label": Text(12, unset=True),
    "url": Text(unset=True),
    **_UNSERVED,
}
_LIST: dict[str, Rule] = {
    "active": Flag(),
    "created": CREATED,
    "ids": Many(Text()),
    "shippable": Flag(),
    "type": _TYPE,
    "url": Text(),
    **PAGE_PARAMETERS,
}
_FILTERS = ("active", "shippable", "type", "url")


def create(call: Call) -> Document:
    return new_product(call, call.params)


def new_product(call: Call, params: dict[str, Any]) -> Document:
    """Also what a price with `product_data` makes first."""
    id = params.get("id", new_id("prod"))
    if call.get(PRODUCTS, id):
        raise ApiError("Product already exists.", code="resource_already_exists", param="id")
    new: Document = {
        "id": id,
        "object": "product",
        "active": True,
        "created": call.timestamp,
        "default_price": None,
        "description": None,
        "images": [],
        "livemode": False,
        "marketing_features": [],
        "metadata": {},
        "name": None,
        "package_dimensions": None,
        "shippable": None,
        "statement_descriptor": None,
        "tax_code": None,
        "type": "service",
        "unit_label": None,
        "updated": call.timestamp,
        "url": None,
    }
    product = call.save(PRODUCTS, _with(new, params))
    announce(call, "product.created", product)
    return product


def retrieve(call: Call) -> Document:
    return call.find(PRODUCTS, "product")


def update(call: Call) -> Document:
    product = call.find(PRODUCTS, "product")
    if price := call.params.get("default_price"):
        found = call.named("price", "price", price, param="default_price")
        if found["product"] != product["id"]:
            raise ApiError(f"The price {price} does not belong to this product.", param="default_price")
    changed = call.save(PRODUCTS, {**_with(product, call.params), "updated": call.timestamp})
    announce(call, "product.updated", changed)
    return changed


def list_all(call: Call) -> Document:
    wanted = {name: call.params[name] for name in _FILTERS if name in call.params}
    ids = call.params.get("ids")
    chosen = [
        product
        for product in reversed(call.all(PRODUCTS))
        if (ids is None or product["id"] in ids)
        and all(product[name] == value for name, value in wanted.items())
        and is_created_in(product, call.params)
    ]
    return page(chosen, call.path, call.params, "product")


def _with(product: Document, params: dict[str, Any]) -> Document:
    sent = {name: value for name, value in params.items() if name in product}
    for name in ("images", "marketing_features"):
        if name in sent:
            sent[name] = sent[name] or []
    return {**product, **sent, "metadata": merged(product["metadata"], params.get("metadata"))}


_EXPANDABLE = frozenset({"default_price"})

ENDPOINTS = (
    Endpoint("POST", "/v1/products", parameters(_CREATE, ("name",)), create, _EXPANDABLE),
    Endpoint("GET", "/v1/products", parameters(_LIST), list_all, frozenset({"data.default_price"})),
    Endpoint("GET", "/v1/products/<id>", parameters(), retrieve, _EXPANDABLE),
    Endpoint("POST", "/v1/products/<id>", parameters(_UPDATE), update, _EXPANDABLE),
)
