"""What Stripe must hold for a catalog: a meter for each that is billed, products, and their prices. Pure.

A product for each plan, which its base fee belongs to, and one for each meter that has a price, which all prices of
that meter belong to: an invoice names a line after its product, so it reads like our own bill. A price of the catalog
is one price at Stripe, shared by the plans that have it; so a customer who changes between these keeps its metered
items, and what is included is not given twice in one period. Every plan has a base fee at Stripe, be it 0, because that
alone tells the plan of a subscription.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from metering.catalog import Catalog, Meter, Plan
from metering.errors import ConfigurationError
from metering.money import minor_digits, round_money
from metering.stripe_sync.meters import is_reported
from metering.stripe_sync.terms import (
    DECIMAL_PLACES,
    SCALED_UNIT,
    Amounts,
    Inexpressible,
    Terms,
    amounts_of,
    plainly,
)
from metering.stripe_sync.units import PriceInUse, prices_in_use


@dataclass(frozen=True, slots=True)
class WantedMeter:
    """`key` is ours, and the event name where Stripe's meter is made by us."""

    key: str
    name: str


@dataclass(frozen=True, slots=True)
class WantedProduct:
    """The id is derived from the catalog, so that it is found again when ours is lost."""

    id: str
    name: str
    description: str


@dataclass(frozen=True, slots=True)
class WantedPrice:
    """`key` is the lookup key; the meter of its terms is still called by our key for it."""

    key: str
    name: str
    plans: tuple[str, ...]
    terms: Terms


@dataclass(frozen=True, slots=True)
class Wanted:
    meters: tuple[WantedMeter, ...]
    products: tuple[WantedProduct, ...]
    prices: tuple[WantedPrice, ...]


def wanted(catalog: Catalog, units: Mapping[str, Decimal]) -> Wanted:
    """`units` says how many scaled units each Stripe meter counts as one.

    Raises:
        ConfigurationError: a line for each price that Stripe cannot bill the same, with its path in the catalog.
    """
    in_use = [one for meter in catalog.meters.values() for one in prices_in_use(catalog, meter)]
    billed = list(dict.fromkeys(one.meter.key for one in in_use))
    faults: list[str] = []
    metered = [
        _metered(catalog, one, amounts)
        for one in in_use
        if (amounts := _amounts(catalog, one, units.get(one.meter.key, SCALED_UNIT), faults)) is not None
    ]
    if faults:
        raise ConfigurationError("\n".join(["Stripe cannot bill this catalog as we do:", *faults]))
    return Wanted(
        meters=tuple(WantedMeter(key, catalog.meters[key].name) for key in billed),
        products=(
            *(WantedProduct(_plan_product(key), f"{plan.name} plan", "") for key, plan in catalog.plans.items()),
            *(_meter_product(catalog, catalog.meters[key], units.get(key, SCALED_UNIT)) for key in billed),
        ),
        prices=(*_base_fees(catalog), *metered),
    )


def _amounts(catalog: Catalog, one: PriceInUse, unit: Decimal, faults: list[str]) -> Amounts | None:
    if not is_reported(one.meter):
        faults.append(f'  {one.path}: a meter aggregated as "{one.meter.aggregation}" cannot be billed')
        return None
    try:
        return amounts_of(one.price, one.meter, unit, catalog.currency)
    except Inexpressible as error:
        faults.append(f"  {one.path}: {error}")
        return None


def _base_fees(catalog: Catalog) -> Iterator[WantedPrice]:
    for plan in catalog.plans.values():
        yield WantedPrice(
            key=f"metering:plan:{plan.key}",
            name=f"{plan.name} plan",
            plans=(plan.key,),
            terms=Terms(_plan_product(plan.key), catalog.currency.lower(), None, _base_fee(catalog, plan)),
        )


def _base_fee(catalog: Catalog, plan: Plan) -> Amounts:
    fee = round_money(plan.base_fee, catalog.currency).scaleb(minor_digits(catalog.currency))
    return Amounts(unit_amount=Decimal(int(fee)))


def _metered(catalog: Catalog, one: PriceInUse, amounts: Amounts) -> WantedPrice:
    meter = one.meter
    scope, name = ("", meter.name)
    if one.scope:
        scope, name = f"plan:{one.scope}:", f"{meter.name}, {catalog.plans[one.scope].name} plan"
    return WantedPrice(
        key=f"metering:{scope}meter:{meter.key}",
        name=name,
        plans=one.plans,
        terms=Terms(_product_of_meter(meter.key), catalog.currency.lower(), meter.key, amounts),
    )


def _meter_product(catalog: Catalog, meter: Meter, unit: Decimal) -> WantedProduct:
    """Says what one unit on an invoice is, where it is not one of the meter's own."""
    price = prices_in_use(catalog, meter)[0].price
    part = unit.scaleb(-meter.scale) / price.size
    says = f"One unit is {plainly(part)} {price.unit}." if part != 1 and _ends(part) else ""
    return WantedProduct(_product_of_meter(meter.key), meter.name, says)


def _ends(part: Decimal) -> bool:
    return part == round(part, DECIMAL_PLACES)


def _plan_product(key: str) -> str:
    return f"metering_plan_{key}"


def _product_of_meter(key: str) -> str:
    return f"metering_meter_{key}"
