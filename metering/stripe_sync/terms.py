"""What a price of the catalog is at Stripe: the amounts and tiers that its bills are computed from. Pure.

Always holds: Stripe's bill for so many of its meter's units is what `billing.pricing` says for what they stand for,
to the last digit; what cannot be said exactly is refused. Amounts are in the currency's minor unit, with 12 decimal
places at most (https://docs.stripe.com/billing/subscriptions/decimal-amounts).
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal

from metering.catalog import Meter, Price
from metering.money import minor_digits

DECIMAL_PLACES = 12
MAX_AMOUNT = 99_999_999
"""The largest amount that Stripe takes, in the minor unit."""

SCALED_UNIT = Decimal(1)
"""The unit of a Stripe meter that counts scaled units as they are."""

NOTHING = Decimal(0)


class Inexpressible(Exception):
    """Stripe has no price that bills the same; says why, in the words of the catalog."""


@dataclass(frozen=True, slots=True)
class TierTerms:
    """One tier: up to and including so many of the meter's units in all (None: no end), each at `unit_amount`."""

    up_to: int | None
    unit_amount: Decimal
    flat_amount: int = 0


@dataclass(frozen=True, slots=True)
class Amounts:
    """Either an amount a unit, after division where there is a `divide_by` (rounded up), or tiers."""

    unit_amount: Decimal | None = None
    tiers: tuple[TierTerms, ...] = ()
    tiers_mode: Literal["graduated", "volume"] | None = None
    divide_by: int | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """All that can never change of a price: another one of these is another price. Monthly; metered if on a `meter`.

    `product` and `meter` are Stripe's ids; the meter is None for a base fee.
    """

    product: str
    currency: str
    meter: str | None
    amounts: Amounts

    def as_json(self) -> dict[str, Any]:
        """The same for the same terms, to be kept and compared."""
        plain: dict[str, Any] = asdict(self)
        amounts = plain["amounts"]
        amounts["unit_amount"] = None if self.amounts.unit_amount is None else plainly(self.amounts.unit_amount)
        amounts["tiers"] = [{**asdict(tier), "unit_amount": plainly(tier.unit_amount)} for tier in self.amounts.tiers]
        return plain


def plainly(amount: Decimal) -> str:
    """Digits without an exponent and without zeros at the end."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def amounts_of(price: Price, meter: Meter, unit: Decimal, currency: str) -> Amounts:
    """The amounts of a catalog's price on a Stripe meter that counts `unit` scaled units as one.

    Raises:
        Inexpressible: no price of Stripe's bills the same.
    """
    scale = _Scale(
        per_charged_unit=Fraction(price.size) * 10**meter.scale / Fraction(unit),
        minor=10 ** minor_digits(currency),
    )
    if price.model == "package":
        return _packages(price, scale, exact=unit == SCALED_UNIT)
    if price.model == "per_unit" and not price.included:
        return Amounts(unit_amount=scale.unit_amount(Fraction(price.amount)))
    mode: Literal["graduated", "volume"] = "volume" if price.model == "volume" else "graduated"
    tiers = tuple(_nothing_for_nothing(list(_tiers(price, scale)), mode))
    if mode == "graduated":
        _check_rounding(tiers)
    return Amounts(tiers=tiers, tiers_mode=mode)


@dataclass(frozen=True, slots=True)
class _Scale:
    """How the catalog's charged units and major money become Stripe's units and minor money."""

    per_charged_unit: Fraction
    minor: int

    def unit_amount(self, amount: Fraction) -> Decimal:
        """The amount of one of Stripe's units, from that of a charged unit."""
        return _decimal(amount * self.minor / self.per_charged_unit)

    def flat_amount(self, amount: Fraction) -> int:
        minor = amount * self.minor
        if minor.denominator != 1:
            raise Inexpressible(f"a flat amount is whole at Stripe, in the currency's minor unit, not {_short(minor)}")
        if minor > MAX_AMOUNT:
            raise Inexpressible(f"Stripe takes amounts up to {MAX_AMOUNT} in the minor unit, not {minor}")
        return int(minor)

    def bound(self, charged_units: Fraction) -> int:
        units = charged_units * self.per_charged_unit
        if units.denominator != 1:
            raise Inexpressible(
                f"{_short(charged_units)} charged units are {_short(units)} of what Stripe counts, "
                "and its tiers end at whole ones"
            )
        return int(units)


def _packages(price: Price, scale: _Scale, *, exact: bool) -> Amounts:
    """Stripe divides what was used and rounds up: packages, as long as it counts exactly and nothing is included."""
    if price.included:
        raise Inexpressible(
            "packages cannot have included units at Stripe: it divides by the size of a package or has tiers, not both "
            '(leave out what is included, or price it "graduated")'
        )
    size = scale.per_charged_unit
    if not exact or size.denominator != 1:
        raise Inexpressible("the size of a package must be a whole number of what Stripe's meter counts")
    amount = _decimal(Fraction(price.amount) * scale.minor)
    return Amounts(unit_amount=amount, divide_by=int(size) if size > 1 else None)


def _tiers(price: Price, scale: _Scale) -> Iterator[TierTerms]:
    """What is included is a free tier before all others, which move up by it."""
    included = Fraction(price.included)
    last = 0
    if included:
        last = scale.bound(included)
        yield TierTerms(last, NOTHING)
    if not price.tiers:
        yield TierTerms(None, scale.unit_amount(Fraction(price.amount)))
    for tier in price.tiers:
        up_to = None if tier.up_to is None else scale.bound(included + Fraction(tier.up_to))
        if up_to is not None and up_to <= last:
            continue  # nothing ever falls into it
        flat = Fraction(tier.flat)
        if price.model == "volume":
            flat -= included * Fraction(tier.amount)  # which Stripe charges for, as it charges all in one tier
        if flat < 0:
            raise Inexpressible(
                'Stripe charges for all units of a "volume" price, those that are included as well, and takes no '
                'negative flat amount that would give them back (leave out what is included, or price it "graduated")'
            )
        yield TierTerms(up_to, scale.unit_amount(Fraction(tier.amount)), scale.flat_amount(flat))


def _nothing_for_nothing(tiers: list[TierTerms], mode: str) -> list[TierTerms]:
    """A flat amount that is due from the first unit on is due with that unit, so that no usage costs nothing.

    Stripe bills the flat amount of a first tier without any usage as well.
    """
    first = tiers[0]
    if not first.flat_amount:
        return tiers
    one = TierTerms(1, _decimal(Fraction(first.unit_amount) + first.flat_amount))
    if first.up_to == 1:
        return [one, *tiers[1:]]
    charged = first.flat_amount if mode == "volume" else 0
    return [one, TierTerms(first.up_to, first.unit_amount, charged), *tiers[1:]]


def _check_rounding(tiers: Sequence[TierTerms]) -> None:
    """Stripe makes a line of each graduated tier and rounds each, we round all of them once.

    So a tier that is full must come to a whole amount; what is left to round is the last one that something falls into.
    """
    floor = 0
    for tier in tiers:
        if tier.up_to is None:
            return
        full = (tier.up_to - floor) * Fraction(tier.unit_amount) + tier.flat_amount
        if full.denominator != 1:
            raise Inexpressible(
                "Stripe rounds each graduated tier by itself, so a full one must cost a whole amount of the currency's "
                f"minor unit: the {tier.up_to - floor} up to {tier.up_to} (of what it counts) cost {_short(full)}"
            )
        floor = tier.up_to


def _decimal(minor: Fraction) -> Decimal:
    scaled = minor * 10**DECIMAL_PLACES
    if scaled.denominator != 1:
        raise Inexpressible(
            f"a unit at Stripe would cost {_short(minor)} of the currency's minor unit, which needs more than "
            f"{DECIMAL_PLACES} decimal places"
        )
    if minor > MAX_AMOUNT:
        raise Inexpressible(f"Stripe takes amounts up to {MAX_AMOUNT} in the minor unit, not {_short(minor)}")
    return Decimal(int(scaled)).scaleb(-DECIMAL_PLACES).normalize() + NOTHING


def _short(number: Fraction) -> str:
    if number.denominator == 1:
        return str(number.numerator)
    return f"{Decimal(number.numerator) / Decimal(number.denominator):.6g}"
