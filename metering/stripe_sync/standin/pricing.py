"""What a quantity costs at a price, part by part: a part is what Stripe makes an invoice line of.

Amounts are in the currency's minor unit; each part is rounded half up to whole ones, before anything is added up.
Source: Stripe's pages "Decimal amounts" (rounding per line item: 1.5 gives 2), "Set up tiered pricing" (the first
tier's flat amount is billed without usage too) and "Transform quantities".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal, localcontext

from metering.stripe_sync.standin.store import Document

# Quantities and unit amounts have few enough digits that no product of them is rounded at this precision.
_WIDE = Context(prec=600)
_ROUNDING = {"up": ROUND_CEILING, "down": ROUND_FLOOR}


@dataclass(frozen=True)
class Part:
    """`exact` is the amount before rounding; `tier` counts from 1, None where there are no tiers."""

    quantity: Decimal
    unit_amount: Decimal
    exact: Decimal
    tier: int | None = None
    flat: bool = False

    @property
    def amount(self) -> int:
        return rounded(self.exact)


def rounded(exact: Decimal) -> int:
    """Half up, away from zero: a credit rounds as the charge that it takes back."""
    return int(exact.quantize(Decimal(1), ROUND_HALF_UP, _WIDE))


def parts(price: Document, quantity: Decimal) -> list[Part]:
    """At least one part, if only of nothing. A quantity below zero costs nothing."""
    quantity = max(quantity, Decimal(0))
    with localcontext(_WIDE):
        if price["billing_scheme"] == "per_unit":
            unit = Decimal(price["unit_amount_decimal"])
            return [Part(quantity, unit, _transformed(price, quantity) * unit)]
        return list((_graduated if price["tiers_mode"] == "graduated" else _volume)(price["tiers"], quantity))


def share(price: Document, quantity: Decimal, numerator: int, denominator: int) -> int:
    """What a part of a period costs: the whole period's exact amount times the fraction, rounded once."""
    with localcontext(_WIDE):
        whole = sum((part.exact for part in parts(price, quantity)), Decimal(0))
        return rounded(whole * numerator / denominator)


def _transformed(price: Document, quantity: Decimal) -> Decimal:
    transform = price["transform_quantity"]
    if not transform:
        return quantity
    packages = quantity / Decimal(transform["divide_by"])
    return packages.quantize(Decimal(1), _ROUNDING[transform["round"]])


def _graduated(tiers: list[Document], quantity: Decimal) -> Iterator[Part]:
    """Each unit costs what its own tier says."""
    lower = Decimal(0)
    for number, tier in enumerate(tiers, start=1):
        upper = quantity if tier["up_to"] is None else min(quantity, Decimal(tier["up_to"]))
        if upper > lower or number == 1:
            yield from _tier(tier, number, upper - lower)
        lower = max(lower, upper)


def _volume(tiers: list[Document], quantity: Decimal) -> Iterator[Part]:
    """All units cost what the tier says that the quantity ends in."""
    for number, tier in enumerate(tiers, start=1):
        if tier["up_to"] is None or quantity <= tier["up_to"]:
            yield from _tier(tier, number, quantity)
            return


def _tier(tier: Document, number: int, units: Decimal) -> Iterator[Part]:
    if tier["unit_amount_decimal"] is not None:
        unit = Decimal(tier["unit_amount_decimal"])
        yield Part(units, unit, units * unit, number)
    if tier["flat_amount_decimal"] is not None:
        flat = Decimal(tier["flat_amount_decimal"])
        yield Part(Decimal(1), flat, flat, number, flat=True)
