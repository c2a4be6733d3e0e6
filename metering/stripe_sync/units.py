"""What a Stripe meter counts as one: scaled units as they are, or, where no price could say what those cost, a small
part of the charged unit. Pure.

A GB-month holds 2,821,793,513,472,000 byte-seconds: at $0.02 each of them costs less than the twelfth decimal place of
a cent. So Stripe's meter counts billionths of a GB-month. Each hour is rounded down to whole ones, so that never more
is billed than was used, and what is lost in a month of 745 hours is less than 745 billionths of a charged unit.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from metering.catalog import Catalog, Meter, Price
from metering.catalog.aggregations import EXACT
from metering.stripe_sync.terms import SCALED_UNIT, Inexpressible, amounts_of

FINEST, COARSEST = 9, 6
"""A charged unit is counted in 10^-9 where the prices' decimal places allow it, in 10^-6 at the worst."""


@dataclass(frozen=True, slots=True)
class PriceInUse:
    """A price that some plans have for a meter. `scope` is the plan whose own it is, None for the catalog's."""

    meter: Meter
    price: Price
    scope: str | None
    plans: tuple[str, ...]

    @property
    def path(self) -> str:
        """Where it stands in the catalog file."""
        return f"plans.{self.scope}.prices.{self.meter.key}" if self.scope else f"prices.{self.meter.key}"


def prices_in_use(catalog: Catalog, meter: Meter) -> list[PriceInUse]:
    """The catalog's price, as far as a plan has it, then those of single plans."""
    own = [
        PriceInUse(meter, plan.prices[meter.key], plan.key, (plan.key,))
        for plan in catalog.plans.values()
        if meter.key in plan.prices
    ]
    shared = tuple(key for key, plan in catalog.plans.items() if meter.key not in plan.prices)
    if meter.key in catalog.prices and shared:
        return [PriceInUse(meter, catalog.prices[meter.key], None, shared), *own]
    return own


def unit_of(catalog: Catalog, meter: Meter) -> Decimal:
    """How many scaled units the meter's Stripe meter counts as one: the first unit in which all its prices can be said.

    Where there is none it is the one that leaves the fewest unsaid; why they are shows when they are made.
    """
    prices = prices_in_use(catalog, meter)
    return min(
        _units(meter, prices),
        key=lambda unit: sum(not _can_be_said(one, unit, catalog.currency) for one in prices),
    )


def units_of(catalog: Catalog) -> Mapping[str, Decimal]:
    """`unit_of` every meter that is reported, by its key."""
    return {meter.key: unit_of(catalog, meter) for meter in catalog.meters.values() if meter.counts_live}


def _units(meter: Meter, prices: Sequence[PriceInUse]) -> Iterator[Decimal]:
    yield SCALED_UNIT
    sizes = list(dict.fromkeys(one.price.size for one in prices))
    for digits in range(FINEST, COARSEST - 1, -1):
        for size in sizes:
            yield EXACT.scaleb(size, meter.scale - digits)


def _can_be_said(one: PriceInUse, unit: Decimal, currency: str) -> bool:
    try:
        amounts_of(one.price, one.meter, unit, currency)
    except Inexpressible:
        return False
    return True
