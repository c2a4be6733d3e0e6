"""Changes of a subscription's items: what may be asked, and what is to be billed for a change within a period.

A licensed item is prorated to the second. A metered one that goes, or whose price changes, is billed for its usage so
far, unless prorations are off. Source: Stripe's pages "Prorations", "Manage your usage-based billing setup" (flexible
billing mode) and "Error codes".
"""

from __future__ import annotations

from typing import Any

from metering.stripe_sync.standin.charges import Charge, charge, proration
from metering.stripe_sync.standin.endpoint import Call
from metering.stripe_sync.standin.errors import ApiError, missing_parameter, no_such
from metering.stripe_sync.standin.metadata import merged
from metering.stripe_sync.standin.prices import PRICES
from metering.stripe_sync.standin.products import PRODUCTS
from metering.stripe_sync.standin.store import Document
from metering.stripe_sync.standin.subscription_documents import (
    is_metered,
    items,
    new_item,
    period,
    price_of,
    with_items,
)
from metering.stripe_sync.standin.subscription_parameters import MAX_ITEMS


def with_first_items(call: Call, subscription: Document, sent: list[dict[str, Any]] | None) -> Document:
    """A new subscription with its items; their period is yet to be set."""
    if not sent:
        raise missing_parameter("items")
    made = [
        new_item(subscription, _priced(call, wanted, f"items[{place}]"), wanted, call.timestamp)
        for place, wanted in enumerate(sent)
    ]
    currency = price_of(call, made[0])["currency"]
    return checked(call, with_items({**subscription, "currency": currency}, made))


def apply(
    call: Call, subscription: Document, sent: list[dict[str, Any]], param: str = "items"
) -> tuple[Document, list[Charge]]:
    """The subscription with its items changed, and what that gives to bill or to give back."""
    kept = {item["id"]: item for item in items(subscription)}
    owed: list[Charge] = []
    for place, wanted in enumerate(sent):
        where = f"{param}[{place}]" if param == "items" else ""
        old = _old(kept, wanted, where)
        new = None if wanted.get("deleted") else _changed(call, subscription, old, wanted, where)
        owed += _difference(subscription, call.timestamp, old, new, wanted)
        if old:
            del kept[old["id"]]
        if new:
            kept[new["id"]] = new
    if not kept:
        raise ApiError("A subscription must have at least one active plan.", param=param)
    return checked(call, with_items(subscription, list(kept.values()))), owed


def checked(call: Call, subscription: Document) -> Document:
    data = items(subscription)
    if len(data) > MAX_ITEMS:
        raise ApiError(f"A subscription can have at most {MAX_ITEMS} items.", param="items")
    prices = [price_of(call, item) for item in data]
    if len({price["id"] for price in prices}) < len(prices):
        raise ApiError("Cannot add multiple subscription items with the same price.", param="items")
    if any(price["currency"] != subscription["currency"] for price in prices):
        raise ApiError("The price specified only supports another currency than the subscription's.", param="items")
    intervals = {(price["recurring"]["interval"], price["recurring"]["interval_count"]) for price in prices}
    if len(intervals) > 1:
        raise ApiError("The stand-in does not serve items with different billing intervals.", param="items")
    return subscription


def _priced(call: Call, wanted: dict[str, Any], where: str, old: Document | None = None) -> Document:
    """The price that was sent, else the item's own one; a quantity must go with it."""
    price = price_of(call, old) if old and "price" not in wanted else _price(call, wanted, where)
    if is_metered(price) and "quantity" in wanted:
        raise ApiError(
            "Quantity should not be specified where usage_type is `metered`. "
            f"Remove quantity from `{where or 'the request'}`",
            param=f"{where}[quantity]" if where else "quantity",
        )
    return price


def _price(call: Call, wanted: dict[str, Any], where: str) -> Document:
    """A price that a subscription may be made of."""
    param = f"{where}[price]" if where else "price"
    if "price" not in wanted:
        raise missing_parameter(param)
    price = call.named(PRICES, "price", wanted["price"], param=param)
    if not price["active"]:
        raise ApiError("The price specified is inactive. This field only accepts active prices.", param=param)
    product = call.get(PRODUCTS, price["product"])
    if product and not product["active"]:
        raise ApiError("This price is not available to be purchased because its product is not active.", param=param)
    if price["type"] != "recurring":
        raise ApiError(
            "The price specified is set to `type=one_time` but this field only accepts prices with `type=recurring`.",
            param=param,
        )
    return price


def _old(kept: dict[str, Document], wanted: dict[str, Any], where: str) -> Document | None:
    id = wanted.get("id")
    if id is None:
        return None
    if id not in kept:
        raise no_such("subscription_item", id, param=f"{where}[id]" if where else "id")
    return kept[id]


def _changed(call: Call, subscription: Document, old: Document | None, wanted: dict[str, Any], where: str) -> Document:
    price = _priced(call, wanted, where, old)
    if old is None:
        start, end = period(subscription)
        item = new_item(subscription, price, wanted, call.timestamp)
        return {**item, "current_period_start": start, "current_period_end": end}
    new = {**old, "price": price["id"], "metadata": merged(old["metadata"], wanted.get("metadata"))}
    new.pop("quantity", None)
    if price["id"] != old["price"]:
        new["_usage_from"] = call.timestamp
    if is_metered(price):
        return new
    return {**new, "quantity": wanted.get("quantity", old.get("quantity", 1))}


def _difference(
    subscription: Document, at: int, old: Document | None, new: Document | None, wanted: dict[str, Any]
) -> list[Charge]:
    """Nothing changes hands during a trial, nor where price and quantity stay."""
    same = old and new and (old["price"], old.get("quantity")) == (new["price"], new.get("quantity"))
    if subscription["status"] == "trialing" or same:
        return []
    owed: list[Charge] = []
    if old and "quantity" in old:
        owed += [proration(old, at, period(subscription), credit=True)] if old["quantity"] else []
    elif old and not wanted.get("clear_usage") and old["_usage_from"] < at:
        owed.append(charge("usage", old, old["_usage_from"], at))
    if new and new.get("quantity"):
        owed.append(proration(new, at, period(subscription), credit=False))
    return owed
