"""Alerts: a threshold of a limit that was crossed, noticed in the drain's own transaction, once a period.

Nothing is scanned: a batch says which totals and levels it has raised, and only these are compared.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from metering.catalog import Catalog
from metering.catalog.aggregations import SUMMED
from metering.models import Alert, Customer, MeterRow, Period
from metering.store.batch import Stored


@dataclass(frozen=True, slots=True)
class _Reached:
    customer_id: int
    meter_id: int
    period_id: int
    plan: str
    units: int


def detect(session: Session, catalog: Catalog, stored: Stored, *, now: datetime) -> Sequence[int]:
    """Write down the thresholds that a batch has crossed; the ids of the alerts that are new."""
    reached = _reached_totals(session, stored) + _reached_levels(session, stored, now)
    if not reached:
        return ()
    keys = {row.id: row.key for row in session.execute(select(MeterRow.id, MeterRow.key))}
    own = _own_percents(session, {one.customer_id for one in reached})
    crossed = [
        alert
        for one in reached
        for alert in _crossed(catalog, keys[one.meter_id], one, own.get(one.customer_id, catalog.alert_percents), now)
    ]
    if not crossed:
        return ()
    crossed.sort(key=lambda alert: (alert["customer_id"], alert["period_id"], alert["meter_id"], alert["percent"]))
    return session.scalars(insert(Alert).values(crossed).on_conflict_do_nothing().returning(Alert.id)).all()


def percents_of(catalog: Catalog, customer: Customer) -> tuple[int, ...]:
    """The thresholds that hold for a customer, in percent of a limit: its own, else the catalog's."""
    return catalog.alert_percents if customer.alert_percents is None else tuple(customer.alert_percents)


def set_percents(customer: Customer, percents: Collection[int] | None) -> None:
    """Give a customer thresholds of its own, none at all (an empty collection), or the catalog's again (None).

    They hold for what is used from now on; alerts that were given stay.
    """
    customer.alert_percents = None if percents is None else sorted(set(percents))


def _own_percents(session: Session, customer_ids: Collection[int]) -> dict[int, Sequence[int]]:
    rows = session.execute(
        select(Customer.id, Customer.alert_percents).where(
            Customer.id.in_(customer_ids), Customer.alert_percents.is_not(None)
        )
    )
    return {row.id: row.alert_percents for row in rows}


def _crossed(
    catalog: Catalog, meter_key: str, one: _Reached, percents: Sequence[int], now: datetime
) -> list[dict[str, Any]]:
    meter = catalog.meters.get(meter_key)
    if meter is None or one.plan not in catalog.plans:
        return []
    limit, _ = catalog.limit_units(one.plan, meter)
    # A limit of nothing is none to run into, and the only seat of a plan being taken is how it is meant.
    if not limit or (meter.is_level and limit == meter.to_units(1)):
        return []
    return [
        {
            "customer_id": one.customer_id,
            "meter_id": one.meter_id,
            "period_id": one.period_id,
            "percent": percent,
            "units": one.units,
            "limit_units": limit,
            "crossed_at": now,
        }
        for percent in percents
        if one.units * 100 >= limit * percent
    ]


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


def current_alerts(session: Session, customer_id: int, *, now: datetime) -> Sequence[tuple[Alert, str]]:
    """The alerts of a customer's current period with the key of their meter, the highest threshold of each first."""
    rows = session.execute(
        select(Alert, MeterRow.key)
        .join(Period, Period.id == Alert.period_id)
        .join(MeterRow, MeterRow.id == Alert.meter_id)
        .where(Alert.customer_id == customer_id, Period.starts_at <= now, Period.ends_at > now)
        .order_by(Alert.percent.desc(), Alert.crossed_at.desc(), Alert.id.desc())
    )
    return [(row[0], row[1]) for row in rows]


def history(session: Session, customer_id: int, *, limit: int = 50) -> Sequence[tuple[Alert, str]]:
    """The newest alerts of a customer, whatever the period, with the key of their meter."""
    query = select(Alert, MeterRow.key).join(MeterRow, MeterRow.id == Alert.meter_id)
    rows = session.execute(query.where(Alert.customer_id == customer_id).order_by(Alert.id.desc()).limit(limit))
    return [(row[0], row[1]) for row in rows]


def list_alerts(
    session: Session, customer_id: int, *, now: datetime, before: int | None, limit: int
) -> Sequence[tuple[Alert, MeterRow]]:
    """The alerts of a customer's current period with their meter, newest first; those before the id `before`."""
    query = (
        select(Alert, MeterRow)
        .join(Period, Period.id == Alert.period_id)
        .join(MeterRow, MeterRow.id == Alert.meter_id)
        .where(Alert.customer_id == customer_id, Period.starts_at <= now, Period.ends_at > now)
        .order_by(Alert.id.desc())
        .limit(limit)
    )
    rows = session.execute(query if before is None else query.where(Alert.id < before))
    return [(row[0], row[1]) for row in rows]
