"""On which plans, and up to how much of each meter, a period costs nothing. Pure."""

import json
from collections.abc import Iterator
from decimal import Decimal

from metering.billing.pricing import price_line
from metering.catalog import Catalog, Meter, Plan, Price

LONGEST_PERIOD = 32 * 86_400
"""Seconds. Customers without a subscription have calendar months."""


def free_plans(catalog: Catalog) -> list[str]:
    """The keys of plans without a base fee whose hard limits end within what is included.

    A hard limit does not bound what is there: levels carry over from a larger plan, and what is recorded as a fact
    passes it. `free_uses` says from where on a period of such a plan costs something all the same.
    """
    return [key for key, plan in catalog.plans.items() if not plan.base_fee and _uses(catalog, plan) is not None]


def free_uses(catalog: Catalog) -> dict[str, dict[str, int]]:
    """By each of the `free_plans` and by meter: up to how many scaled units cost nothing; levels: while they stand no
    higher. Meters that never cost anything are left out.
    """
    found = {key: _uses(catalog, catalog.plans[key]) for key in free_plans(catalog)}
    return {key: uses for key, uses in found.items() if uses is not None}


def as_parameters(catalog: Catalog) -> dict[str, object]:
    """All of it, as statements take it that ask whether a period may cost something."""
    return {"free_plans": free_plans(catalog), "free_uses": json.dumps(free_uses(catalog))}


def _uses(catalog: Catalog, plan: Plan) -> dict[str, int] | None:
    """None where one of the meters may cost something within its limit."""
    uses = {}
    for meter, price in _priced(catalog, plan):
        limit, mode = catalog.limit_units(plan.key, meter)
        if limit is None or mode != "hard" or not _costs_nothing(catalog, meter, price, limit):
            return None
        uses[meter.key] = limit
    return uses


def _priced(catalog: Catalog, plan: Plan) -> Iterator[tuple[Meter, Price]]:
    for meter in catalog.meters.values():
        price = catalog.price(plan.key, meter.key)
        if price is not None and (price.amount or any(tier.amount or tier.flat for tier in price.tiers)):
            yield meter, price


def _costs_nothing(catalog: Catalog, meter: Meter, price: Price, limit: int) -> bool:
    """Nothing at the limit, and nothing before it: where tiers are of the volume, more can cost less."""
    units = limit * LONGEST_PERIOD if meter.bills_as == "time_weighted" else limit
    line = price_line(price, units, meter, catalog.currency)
    return line.amount == 0 and (price.model != "volume" or line.billable == Decimal(0))
