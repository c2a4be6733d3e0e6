"""What a quantity costs. Pure.

Always holds: nothing is a float; an amount is computed exactly and rounded once, half up, to the currency's minor unit.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_05UP, Context, Decimal, localcontext
from fractions import Fraction
from math import ceil

from metering.catalog import Meter, Price, Tier
from metering.money import round_money

DIGITS = Context(prec=60)
"""For quotients that have no last digit, such as bytes-seconds in GB-months. Far beyond any unit of money."""

UNROUNDED = Context(prec=60, rounding=ROUND_05UP)
"""Shortens an amount so that rounding it once more gives what rounding the exact one would: the last digit that is
kept never becomes a 0 or 5 that it was not, so nothing looks like exactly half a cent that is not."""


@dataclass(frozen=True, slots=True)
class PricedStep:
    """The part of a line that one tier priced: charged units times `unit_price`, plus `flat`. `amount` is unrounded."""

    up_to: Decimal | None
    quantity: Decimal
    unit_price: Decimal
    flat: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class PricedLine:
    """A line of a bill. Quantities are charged units (`unit` is their name), amounts are in the currency's major unit.

    `quantity` is what was used, `included` what costs nothing in each period, `billable` what is charged: whole
    packages for a "package" price. `unit_price` is None where tiers price the line; `steps` then say how.
    """

    meter: str
    unit: str
    quantity: Decimal
    included: Decimal
    billable: Decimal
    unit_price: Decimal | None
    amount: Decimal
    currency: str
    steps: tuple[PricedStep, ...] = ()


def price_line(price: Price, quantity_units: Decimal | int, meter: Meter, currency: str) -> PricedLine:
    """Price `quantity_units` of a meter: scaled units, or scaled unit-seconds where it bills time-weighted.

    What is included comes off first, for every model; the tiers of a price then count what is left. A tier's `up_to`
    belongs to the tier, as at Stripe (https://docs.stripe.com/api/prices/object#price_object-tiers-up_to), and its
    `flat` is due when something falls into it: no usage costs nothing.
    """
    quantity = Fraction(quantity_units) / 10**meter.scale / Fraction(price.size)
    billable = max(Fraction(0), quantity - Fraction(price.included))
    if price.model == "package":
        billable = Fraction(ceil(billable))
    parts = list(_in_tiers(price, billable))
    amount = sum((_cost(tier, part) for tier, part in parts), Fraction(0))
    if not price.tiers:
        amount = billable * Fraction(price.amount)
    return PricedLine(
        meter=meter.key,
        unit=price.unit,
        quantity=_decimal(quantity),
        included=price.included,
        billable=_decimal(billable),
        unit_price=None if price.tiers else price.amount,
        amount=_rounded(amount, currency),
        currency=currency,
        steps=tuple(_step(tier, part) for tier, part in parts),
    )


def _in_tiers(price: Price, billable: Fraction) -> Iterator[tuple[Tier, Fraction]]:
    """Which tiers something falls into, and how much: the units of each ("graduated"), or all in one ("volume")."""
    floor = Fraction(0)
    for tier in price.tiers:
        ceiling = billable if tier.up_to is None else min(billable, Fraction(tier.up_to))
        if price.model == "graduated" and ceiling > floor:
            yield tier, ceiling - floor
        if price.model == "volume" and ceiling == billable > floor:
            yield tier, billable
        floor = max(floor, ceiling)


def _cost(tier: Tier, quantity: Fraction) -> Fraction:
    return quantity * Fraction(tier.amount) + Fraction(tier.flat)


def _step(tier: Tier, quantity: Fraction) -> PricedStep:
    return PricedStep(tier.up_to, _decimal(quantity), tier.amount, tier.flat, _decimal(_cost(tier, quantity)))


def _rounded(amount: Fraction, currency: str) -> Decimal:
    # The context's precision also bounds what rounding may return: the usual 28 digits would refuse large amounts.
    with localcontext(UNROUNDED) as context:
        return round_money(context.divide(Decimal(amount.numerator), Decimal(amount.denominator)), currency)


def _decimal(number: Fraction) -> Decimal:
    return DIGITS.divide(Decimal(number.numerator), Decimal(number.denominator))
