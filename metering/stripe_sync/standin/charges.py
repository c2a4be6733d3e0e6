"""Charges: what an invoice is to bill, noted before the amounts are known, and the lines that come of them.

A charge is a JSON object, kept with the invoice that will bill it or with the subscription until one does:
`licensed` is a quantity for a coming period, `usage` what a meter counted from `start` up to but without `end`,
`proration` a part of a period, charged or given back, `trial` a quantity for nothing.
"""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import Any, TypeAlias

from metering.stripe_sync.standin.descriptions import line_description
from metering.stripe_sync.standin.endpoint import Call
from metering.stripe_sync.standin.meters import METERS
from metering.stripe_sync.standin.prices import PRICES
from metering.stripe_sync.standin.pricing import Part, parts, share
from metering.stripe_sync.standin.products import PRODUCTS
from metering.stripe_sync.standin.store import Document
from metering.stripe_sync.standin.usage import aggregate

Charge: TypeAlias = dict[str, Any]


def charge(kind: str, item: Document, start: int, end: int) -> Charge:
    return {
        "kind": kind,
        "item": item["id"],
        "price": item["price"],
        "quantity": item.get("quantity"),
        "start": start,
        "end": end,
    }


def proration(item: Document, at: int, period: tuple[int, int], *, credit: bool) -> Charge:
    """The time from `at` to the period's end, of a licensed item: taken, or given back."""
    start, end = period
    of = [end - at, end - start]
    return {**charge("proration", item, at, end), "of": of, "credit": credit}


def lines(call: Call, invoice: Document, subscription: Document, charges: list[Charge], known_at: float) -> Document:
    """The invoice's list of lines, with the usage that was known at a time (Unix seconds)."""
    made: list[Document] = []
    for sent in charges:
        price, product = _priced(call, sent["price"])
        for part in _parts(call, subscription, sent, price, known_at):
            made.append(_line(invoice, subscription, sent, price, product, part, len(made)))
    return {
        "object": "list",
        "data": made,
        "has_more": False,
        "url": f"/v1/invoices/{invoice['id']}/lines",
    }


def _priced(call: Call, id: str) -> tuple[Document, Document]:
    price = call.get(PRICES, id)
    product = call.get(PRODUCTS, price["product"]) if price else None
    if price is None or product is None:
        raise LookupError(id)
    return price, product


def _parts(call: Call, subscription: Document, sent: Charge, price: Document, known_at: float) -> list[Part]:
    if sent["kind"] == "trial":
        return [Part(Decimal(sent["quantity"]), Decimal(0), Decimal(0))]
    if sent["kind"] == "proration":
        amount = share(price, Decimal(sent["quantity"]), *sent["of"]) * (-1 if sent["credit"] else 1)
        return [Part(Decimal(sent["quantity"]), Decimal(amount) / sent["quantity"], Decimal(amount))]
    if sent["kind"] == "licensed":
        return parts(price, Decimal(sent["quantity"]))
    return parts(price, used(call, price, subscription["customer"], sent["start"], sent["end"], known_at))


def used(call: Call, price: Document, customer: str, start: int, end: int, known_at: float) -> Decimal:
    meter = call.get(METERS, price["recurring"]["meter"])
    if meter is None:
        raise LookupError(price["recurring"]["meter"])
    events = call.usage.counted(meter["id"], customer, start, end, known_at)
    return aggregate(meter["default_aggregation"]["formula"], events)


def _line(
    invoice: Document,
    subscription: Document,
    sent: Charge,
    price: Document,
    product: Document,
    part: Part,
    place: int,
) -> Document:
    """Its id follows from the invoice and the place, so that a draft's lines keep theirs while usage comes in."""
    prorated = sent["kind"] == "proration"
    digest = hashlib.sha256(f"{invoice['id']} {place}".encode()).hexdigest()
    return {
        "id": f"il_{digest[:24]}",
        "object": "line_item",
        "amount": part.amount,
        "currency": price["currency"],
        "description": line_description(sent["kind"], sent.get("credit", False), part, price, product, sent["start"]),
        "discount_amounts": [],
        "discountable": not prorated,
        "discounts": [],
        "invoice": invoice["id"],
        "livemode": False,
        "metadata": subscription["metadata"],
        "parent": _parent(subscription["id"], sent["item"], f"ii_{digest[24:48]}" if prorated else None),
        "period": {"end": sent["end"], "start": sent["start"]},
        "pretax_credit_amounts": [],
        "pricing": {
            "price_details": {"price": price["id"], "product": product["id"]},
            "type": "price_details",
            "unit_amount_decimal": format(part.unit_amount, "f"),
        },
        "quantity": int(part.quantity) if part.quantity == int(part.quantity) else None,
        "quantity_decimal": format(part.quantity, "f"),
        "subscription": subscription["id"],
        "subtotal": part.amount,
        "taxes": [],
    }


def _parent(subscription: str, item: str, invoice_item: str | None) -> Document:
    """A proration is an invoice item of its own, which the line stands for."""
    return {
        "invoice_item_details": None,
        "subscription_item_details": {
            "invoice_item": invoice_item,
            "proration": invoice_item is not None,
            "proration_details": {"credited_items": None},
            "subscription": subscription,
            "subscription_item": item,
        },
        "type": "subscription_item_details",
    }
