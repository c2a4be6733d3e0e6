"""Which plans nobody can owe anything on. Pure."""

from decimal import Decimal

from metering.billing.pricing import price_line
from metering.catalog import Catalog, Meter, Plan

LONGEST_PERIOD = 32 * 86_400
"""Seconds. Customers without a subscription have calendar months."""


def plans_that_cost_nothing(catalog: Catalog) -> list[str]:
    """The keys of plans without a base fee whose hard limits end within what is included, so that no usage is charged.

    What came past a hard limit, in events that were sent in after the fact, is not looked at.
    """
    return [key for key, plan in catalog.plans.items() if not plan.base_fee and not _charges(catalog, plan)]


def _charges(catalog: Catalog, plan: Plan) -> bool:
    return any(_most_of(catalog, plan, meter) != 0 for meter in catalog.meters.values())


def _most_of(catalog: Catalog, plan: Plan, meter: Meter) -> Decimal | None:
    """What a meter costs at most in a period; None where nothing bounds it."""
    price = catalog.price(plan.key, meter.key)
    if price is None:
        return Decimal(0)
    limit, mode = catalog.limit_units(plan.key, meter)
    if limit is None or mode != "hard":
        return None
    units = limit * LONGEST_PERIOD if meter.bills_as == "time_weighted" else limit
    return price_line(price, units, meter, catalog.currency).amount
