"""What a period costs so far: its bill, if it ended now.

Always holds: the lines add up to the total; the cost of an estimate does not grow with the number of events, because
usage is read from the totals and levels from their accruals.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from metering.billing.pricing import PricedLine, price_line
from metering.catalog import Catalog, Meter, Plan
from metering.catalog.aggregations import SUMMED
from metering.errors import ConfigurationError
from metering.models import Customer, MeterRow, Period, PeriodTotal
from metering.money import round_money
from metering.store.accruals import accrued_in


@dataclass(frozen=True, slots=True)
class EstimateLine:
    """A line of the bill. `amount` is in the currency's major unit; `usage` explains it, None for the base fee."""

    name: str
    amount: Decimal
    usage: PricedLine | None = None

    @property
    def meter(self) -> str | None:
        return self.usage.meter if self.usage else None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the period `[starts_at, ends_at)` costs with all usage until `as_of`, in the currency's major unit."""

    customer: str
    period_id: int
    plan: str
    starts_at: datetime
    ends_at: datetime
    as_of: datetime
    currency: str
    lines: tuple[EstimateLine, ...]
    total: Decimal


def estimate(session: Session, catalog: Catalog, customer: Customer, period: Period, *, now: datetime) -> Estimate:
    """The bill of `period` if it ended `now`: the base fee of its plan, then a line for each meter with a price.

    Also right for a period that is over; `now` then is the time of asking.

    Raises:
        ConfigurationError: the catalog does not know the period's plan any more, or prices a meter that has no total.
    """
    plan = _plan(catalog, period)
    return _bill(catalog, plan, customer, period, _units(session, [period], now)[period.id], now)


def estimates(
    session: Session, catalog: Catalog, customer: Customer, period: Period, *, now: datetime
) -> dict[str, Estimate]:
    """What all usage of `period` so far comes to on each plan of the catalog, by the plan's key.

    Raises ConfigurationError: a meter has a price and no total.
    """
    units = _units(session, [period], now)[period.id]
    return {plan.key: _bill(catalog, plan, customer, period, units, now) for plan in catalog.plans.values()}


def totals(session: Session, catalog: Catalog, periods: Collection[Period], *, now: datetime) -> dict[int, Decimal]:
    """What each of these periods costs so far, by its id, in as many statements as of one.

    Those that the catalog cannot price are left out: of one customer nobody else should have to wait.
    """
    units = _units(session, periods, now)
    found = {}
    for period in periods:
        with suppress(ConfigurationError):
            found[period.id] = _total(_lines(catalog, _plan(catalog, period), units[period.id]))
    return found


def _units(session: Session, periods: Collection[Period], now: datetime) -> dict[int, dict[str, Decimal]]:
    used = _usage_in(session, {period.id: period.customer_id for period in periods})
    levels = accrued_in(session, periods, now=now)
    return {period.id: used[period.id] | levels[period.id] for period in periods}


def _bill(
    catalog: Catalog, plan: Plan, customer: Customer, period: Period, units: Mapping[str, Decimal], now: datetime
) -> Estimate:
    lines = _lines(catalog, plan, units)
    return Estimate(
        customer=customer.key,
        period_id=period.id,
        plan=plan.key,
        starts_at=period.starts_at,
        ends_at=period.ends_at,
        as_of=min(now, period.ends_at),
        currency=catalog.currency,
        lines=lines,
        total=_total(lines),
    )


def _lines(catalog: Catalog, plan: Plan, units: Mapping[str, Decimal]) -> tuple[EstimateLine, ...]:
    base_fee = EstimateLine(f"{plan.name} plan", round_money(plan.base_fee, catalog.currency))
    return (base_fee, *_usage_lines(catalog, plan, units))


def _total(lines: Collection[EstimateLine]) -> Decimal:
    return sum((line.amount for line in lines), Decimal(0))


def usage_quantities(session: Session, customer_id: int, period_id: int) -> dict[str, Decimal]:
    """The totals of a period in scaled units, by meter key: of meters that sum or count. Levels accrue instead."""
    return _usage_in(session, {period_id: customer_id})[period_id]


def _usage_in(session: Session, customer_ids: Mapping[int, int]) -> dict[int, dict[str, Decimal]]:
    """The same of many periods, by their ids; `customer_ids` are by period id."""
    found: dict[int, dict[str, Decimal]] = {period_id: {} for period_id in customer_ids}
    if not found:
        return found
    pairs = [(customer_id, period_id) for period_id, customer_id in customer_ids.items()]
    rows = session.execute(
        select(PeriodTotal.period_id, MeterRow.key, PeriodTotal.units)
        .join(MeterRow, MeterRow.id == PeriodTotal.meter_id)
        .where(tuple_(PeriodTotal.customer_id, PeriodTotal.period_id).in_(pairs))
        .where(MeterRow.kind == "usage", MeterRow.aggregation.in_(SUMMED))
    )
    for period_id, key, units in rows:
        found[period_id][key] = Decimal(units)
    return found


def _plan(catalog: Catalog, period: Period) -> Plan:
    try:
        return catalog.plans[period.plan]
    except KeyError:
        raise ConfigurationError(
            f"period {period.id} is billed by the plan {period.plan!r}, which the catalog does not have"
        ) from None


def _usage_lines(catalog: Catalog, plan: Plan, units: Mapping[str, Decimal]) -> Iterator[EstimateLine]:
    for meter in catalog.meters.values():
        price = catalog.price(plan.key, meter.key)
        if price is None:
            continue
        _check_has_total(meter)
        line = price_line(price, units.get(meter.key, Decimal(0)), meter, catalog.currency)
        yield EstimateLine(meter.name, line.amount, line)


def _check_has_total(meter: Meter) -> None:
    """A price on a meter whose total nobody keeps would silently bill nothing."""
    if not meter.counts_live:
        raise ConfigurationError(
            f'prices.{meter.key}: only meters aggregated as "sum" or "count" and levels can be billed, '
            f'this one is aggregated as "{meter.aggregation}"'
        )
