"""How a stored document is shown: references as ids unless expanded, some fields on request only, `_…` ones never.

A subscription item keeps the id of its price; Stripe shows the price whole. Lists inside show their first ten.
Source: Stripe's page "Expanding responses".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from metering.stripe_sync.standin.plans import plan_of
from metering.stripe_sync.standin.store import Document

Wanted: TypeAlias = "dict[str, Wanted]"
LookUp: TypeAlias = Callable[[str, str], Document | None]

# The noun that a field's id is looked up in.
REFERENCES = {
    "customer": "customer",
    "default_price": "price",
    "invoice": "invoice",
    "latest_invoice": "invoice",
    "price": "price",
    "product": "product",
    "subscription": "subscription",
    "test_clock": "test_helpers.test_clock",
}
_KEPT_AS_SHOWN = ("event", "v2.core.event")
_ON_REQUEST = {("price", "tiers"), ("checkout.session", "line_items")}
_FIRST_PAGE = {("invoice", "lines"), ("subscription", "items")}
_ALWAYS_WHOLE = {("subscription_item", "price"), ("item", "price")}


def wanted(paths: Iterable[str]) -> Wanted:
    """`["data.tiers", "data.product"]` as a tree of names."""
    tree: Wanted = {}
    for path in paths:
        place = tree
        for name in path.split("."):
            place = place.setdefault(name, {})
    return tree


def rendered(document: Any, look_up: LookUp, tree: Wanted | None = None) -> Any:
    """The document as the API shows it, with what the tree wants expanded. `look_up` takes a noun and an id."""
    if isinstance(document, list):
        return [rendered(item, look_up, tree) for item in document]
    if not isinstance(document, dict):
        return document
    kind, tree = document.get("object"), tree or {}
    if kind in _KEPT_AS_SHOWN:
        return document
    shown: Document = {}
    for name, value in document.items():
        if name.startswith("_") or ((kind, name) in _ON_REQUEST and name not in tree):
            continue
        whole = name in tree or (kind, name) in _ALWAYS_WHOLE
        if whole and name in REFERENCES and isinstance(value, str):
            value = look_up(REFERENCES[name], value)
        if (kind, name) in _FIRST_PAGE:
            value = {**value, "data": value["data"][:10], "has_more": len(value["data"]) > 10}
        shown[name] = rendered(value, look_up, tree.get(name))
        if (kind, name) == ("subscription_item", "price"):
            shown["plan"] = plan_of(value)
    return shown
