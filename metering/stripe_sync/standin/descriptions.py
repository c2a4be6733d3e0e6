"""What an invoice line says for people. The wording follows the lines of Stripe's own invoices."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from metering.stripe_sync.standin.pricing import Part
from metering.stripe_sync.standin.store import Document

_SIGNS = {"eur": "€", "gbp": "£", "jpy": "¥", "usd": "$"}
# Currencies without a minor unit. Source: Stripe's page "Supported currencies".
_WHOLE = frozenset(("bif", "clp", "jpy", "kmf", "krw", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"))


def line_description(kind: str, credit: bool, part: Part, price: Document, product: Document, start: int) -> str:
    name, quantity = product["name"], format(part.quantity, "f")
    if kind == "trial":
        return f"Trial period for {name}"
    if kind == "proration":
        day = datetime.fromtimestamp(start, UTC)
        return f"{'Unused' if credit else 'Remaining'} time on {quantity} × {name} after {day:%d %b %Y}"
    if part.flat:
        return f"{name} (Tier {part.tier} flat fee)"
    rate = f"{money(part.unit_amount, price['currency'])}{_per(price)}"
    return f"{quantity} × {name} ({f'Tier {part.tier} at' if part.tier else 'at'} {rate})"


def _per(price: Document) -> str:
    recurring, transform = price["recurring"], price["transform_quantity"]
    count, interval = recurring["interval_count"], recurring["interval"]
    every = f"every {count} {interval}s" if count > 1 else interval
    return f"{' per ' + str(transform['divide_by']) if transform else ''} / {every}"


def money(amount: Decimal, currency: str) -> str:
    """At least two places where the currency has a minor unit."""
    sign = _SIGNS.get(currency, f"{currency.upper()} ")
    if currency in _WHOLE:
        return f"{sign}{amount:f}"
    major = amount / 100
    return f"{sign}{major:.2f}" if major == round(major, 2) else f"{sign}{major.normalize():f}"
