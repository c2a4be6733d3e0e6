"""Subscription items: the same changes as through their subscription, one at a time.

Source: Stripe's API reference, "Subscription Items".
"""

from __future__ import annotations

from typing import Any

from metering.stripe_sync.standin import item_changes
from metering.stripe_sync.standin.endpoint import Call, Endpoint
from metering.stripe_sync.standin.errors import ApiError, no_such
from metering.stripe_sync.standin.pages import page
from metering.stripe_sync.standin.rules import parameters
from metering.stripe_sync.standin.store import Document
from metering.stripe_sync.standin.subscription_documents import ENDED, SUBSCRIPTIONS, items
from metering.stripe_sync.standin.subscription_parameters import ITEM_CREATE, ITEM_DELETE, ITEM_LIST, ITEM_UPDATE
from metering.stripe_sync.standin.subscriptions import save_change
from metering.stripe_sync.standin.test_clocks import on_clock

_WANTED = ("clear_usage", "metadata", "price", "quantity")


def create(call: Call) -> Document:
    id = call.params["subscription"]
    subscription = call.named(SUBSCRIPTIONS, "subscription", id, param="subscription")
    before = {item["id"] for item in items(subscription)}
    changed = _change(call, subscription, {})
    return next(item for item in items(changed) if item["id"] not in before)


def retrieve(call: Call) -> Document:
    return _found(call)[1]


def update(call: Call) -> Document:
    subscription, item = _found(call)
    changed = _change(call, subscription, {"id": item["id"]})
    return next(changed for changed in items(changed) if changed["id"] == item["id"])


def delete(call: Call) -> Document:
    subscription, item = _found(call)
    _change(call, subscription, {"id": item["id"], "deleted": True})
    return {"id": item["id"], "object": "subscription_item", "deleted": True}


def list_all(call: Call) -> Document:
    id = call.params["subscription"]
    subscription = call.named(SUBSCRIPTIONS, "subscription", id, param="subscription")
    return page(items(subscription), call.path, call.params, "subscription_item")


def _found(call: Call) -> tuple[Document, Document]:
    for subscription in call.all(SUBSCRIPTIONS):
        for item in items(subscription):
            if item["id"] == call.ids["id"]:
                return subscription, item
    raise no_such("subscription_item", call.ids["id"])


def _change(call: Call, subscription: Document, which: dict[str, Any]) -> Document:
    if subscription["status"] in ENDED:
        raise ApiError("A canceled subscription can only update its cancellation_details and metadata.")
    call = on_clock(call, subscription)
    wanted = {**which, **{name: call.params[name] for name in _WANTED if name in call.params}}
    changed, owed = item_changes.apply(call, subscription, [wanted], param="item")
    save_change(call, subscription, changed, owed, call.params.get("proration_behavior"))
    return changed


_EXPANDABLE = frozenset({"price.product", "price.tiers"})

ENDPOINTS = (
    Endpoint("POST", "/v1/subscription_items", ITEM_CREATE, create, _EXPANDABLE),
    Endpoint(
        "GET", "/v1/subscription_items", ITEM_LIST, list_all, frozenset({"data.price.product", "data.price.tiers"})
    ),
    Endpoint("GET", "/v1/subscription_items/<id>", parameters(), retrieve, _EXPANDABLE),
    Endpoint("POST", "/v1/subscription_items/<id>", ITEM_UPDATE, update, _EXPANDABLE),
    Endpoint("DELETE", "/v1/subscription_items/<id>", ITEM_DELETE, delete),
)
