"""Alerts: a threshold of a meter that was crossed, noticed in the drain's own transaction, once a period.

Nothing is scanned: a batch says which totals and levels it has raised, and only these are compared. What the bill comes
to is compared in `billing.spending`.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from metering.catalog import Catalog, Meter
from metering.catalog.aggregations import SUMMED
from metering.limits.thresholds import Kind, percents_that_hold
from metering.models import Alert, AlertThreshold, Customer, MeterRow, Period
from metering.store.batch import Stored

Values = Mapping[str, Collection[Decimal]]
"""A customer's own thresholds of one meter, by their kind."""


@dataclass(frozen=True, slots=True)
class Crossed:
    """A threshold that was reached; the fields are those of `models.Alert`."""

    customer_id: int
    period_id: int
    kind: Kind
    value: Decimal
    meter_id: int | None = None
    units: int | None = None
    limit_units: int | None = None
    total: Decimal | None = None
    currency: str | None = None


@dataclass(frozen=True, slots=True)
class _Reached:
    customer_id: int
    meter_id: int
    period_id: int
    plan: str
    units: int


def detect(session: Session, catalog: Catalog, stored: Stored, *, now: datetime) -> Sequence[int]:
    """Write down the thresholds of meters that a batch has crossed; the ids of the alerts that are new."""
    reached = _reached_totals(session, stored) + _reached_levels(session, stored, now)
    if not reached:
        return ()
    keys = {row.id: row.key for row in session.execute(select(MeterRow.id, MeterRow.key))}
    customer_ids = {one.customer_id for one in reached}
    percents, own = _percents(session, customer_ids), _own(session, customer_ids)
    crossed = [
        found
        for one in reached
        if (meter := catalog.meters.get(keys[one.meter_id])) is not None
        for found in _crossed(
            meter,
            _limit(catalog, one.plan, meter),
            one,
            percents.get(one.customer_id, catalog.alert_percents),
            own[one.customer_id, one.meter_id],
        )
    ]
    return write_down(session, crossed, now=now)


def write_down(session: Session, crossed: Iterable[Crossed], *, now: datetime) -> Sequence[int]:
    """Store what was crossed, unless it is known; the ids of the alerts that are new."""
    # In one order, so that two writers cannot wait for each other.
    ordered = sorted(crossed, key=lambda one: (one.customer_id, one.period_id, one.meter_id or 0, one.kind, one.value))
    if not ordered:
        return ()
    rows = [{name: getattr(one, name) for name in Crossed.__slots__} | {"crossed_at": now} for one in ordered]
    return session.scalars(insert(Alert).values(rows).on_conflict_do_nothing().returning(Alert.id)).all()


def _percents(session: Session, customer_ids: Collection[int]) -> dict[int, Sequence[int]]:
    """Those that hold for all meters, of the customers that have their own."""
    rows = session.execute(
        select(Customer.id, Customer.alert_percents).where(
            Customer.id.in_(customer_ids), Customer.alert_percents.is_not(None)
        )
    )
    return {row.id: row.alert_percents for row in rows}


def _own(session: Session, customer_ids: Collection[int]) -> Mapping[tuple[int, int], Values]:
    """By customer and meter."""
    columns = (AlertThreshold.customer_id, AlertThreshold.meter_id, AlertThreshold.kind, AlertThreshold.value)
    query = select(*columns).where(AlertThreshold.customer_id.in_(customer_ids), AlertThreshold.meter_id.is_not(None))
    own: dict[tuple[int, int], dict[str, list[Decimal]]] = defaultdict(lambda: {"percent": [], "quantity": []})
    for customer_id, meter_id, kind, value in session.execute(query):
        assert meter_id is not None
        own[customer_id, meter_id][kind].append(value)
    return own


def _limit(catalog: Catalog, plan: str, meter: Meter) -> int | None:
    return catalog.limit_units(plan, meter)[0] if plan in catalog.plans else None


def _crossed(meter: Meter, limit: int | None, one: _Reached, percents: Iterable[int], own: Values) -> Iterable[Crossed]:
    at = one.customer_id, one.period_id
    for percent in percents_that_hold(meter, limit, percents, own["percent"]):
        assert limit is not None
        if one.units * 100 >= limit * percent:
            yield Crossed(*at, "percent", Decimal(percent), one.meter_id, one.units, limit)
    for quantity in own["quantity"]:
        if meter.to_quantity(one.units) >= quantity:
            yield Crossed(*at, "quantity", quantity, one.meter_id, one.units)


def _reached_totals(session: Session, stored: Stored) -> list[_Reached]:
    latest = {(total.customer_id, total.meter_id, total.period_id): int(total.units) for total in stored.totals}
    plans = _plans(session, {period_id for _, _, period_id in latest})
    counted = set(
        session.scalars(select(MeterRow.id).where(MeterRow.kind == "usage", MeterRow.aggregation.in_(SUMMED)))
    )
    return [
        _Reached(customer_id, meter_id, period_id, plans[period_id], units)
        for (customer_id, meter_id, period_id), units in latest.items()
        if meter_id in counted
    ]


def _reached_levels(session: Session, stored: Stored, now: datetime) -> list[_Reached]:
    latest = {(level.customer_id, level.meter_id): level.level for level in stored.levels}
    if not latest:
        return []
    query = select(Period).where(
        Period.customer_id.in_({customer_id for customer_id, _ in latest}),
        Period.starts_at <= now,
        Period.ends_at > now,
    )
    current = {period.customer_id: period for period in session.scalars(query)}
    return [
        _Reached(customer_id, meter_id, current[customer_id].id, current[customer_id].plan, units)
        for (customer_id, meter_id), units in latest.items()
        if customer_id in current
    ]


def _plans(session: Session, period_ids: set[int]) -> dict[int, str]:
    if not period_ids:
        return {}
    rows = session.execute(select(Period.id, Period.plan).where(Period.id.in_(period_ids)))
    return {row.id: row.plan for row in rows}
