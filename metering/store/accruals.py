"""Closing hours: what each level cost, hour by hour, also where nothing happened.

Always holds: everything before a level's `accrued_until` has its accruals, and `opening` is the level at that instant.
A late event moves both back (`store.batch.fold_levels`), and closing writes the hours from there on anew: by what is
true now, whether their period is still open or not. A voided event counts nowhere.

A period that ends within an hour has its part of it settled with its own end: its invoice, which is made final an hour
after that, would else miss what a part of an hour cost that is closed an hour later. Such a part stands at or after
`accrued_until`: whatever changes the level takes it away, it is settled again, and closing the hour writes it anew.

Closing and draining both write `levels` and `accruals`, and a drain inserts events before it looks at their levels. So
closing takes the lock that the drain works under, its partitions' rows, before it reads anything it relies on. With
locks on `levels` alone, a drain that waits for one would go on with the accruals it saw before the wait, and take the
wrong opening from them. There is no deadlock: closers wait for partitions in ascending order and hold nothing else
meanwhile; a drain skips partitions that are taken and so waits for no closer; and whoever writes `levels` or
`accruals` does it under this lock.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any, Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.catalog import Catalog
from metering.clock import MICROSECOND, floor_hour
from metering.intake.values import Span
from metering.models import PartitionRow, Period
from metering.store.levels import Change, Folded, HourAccrual, Opening, accrue
from metering.store.sql import statement

MAX_LEVELS = 2_000
MAX_HOURS = 250_000
"""The most hours one call closes (or all of one level's): how long a transaction may hold up the drain."""

HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Closed:
    """How many levels (or last parts of periods) one call has closed, and the periods in which they cost something."""

    levels: int = 0
    period_ids: frozenset[int] = frozenset()


class _Level(Protocol):
    """A row with a level to fold."""

    customer_id: int
    meter_id: int
    opening: int
    accrued_until: datetime
    peak: int


def close_hours(
    session: Session, catalog: Catalog, *, now: datetime, settle_seconds: float, limit: int = MAX_LEVELS
) -> Closed:
    """Close the hours that ended at least `settle_seconds` ago, for up to `limit` levels; how many levels moved on.

    The caller commits, soon, and calls again until no level moves. Waits for drains that are at work on the partitions
    of these levels, and holds them up until the transaction ends. Levels of meters that the catalog no longer has
    stay as they are, and so do hours for whose end no period is stored yet.
    """
    billed = [meter.key for meter in catalog.meters.values() if meter.is_level]
    wanted = {"target": floor_hour(now - timedelta(seconds=settle_seconds)), "meters": billed, "most": limit}
    partitions = {level.partition for level in _due(session, wanted, None)}
    if not partitions:
        return Closed()
    _lock(session, partitions)
    levels = _due(session, wanted, sorted(partitions))
    if not levels:
        return Closed()  # another closer was faster
    changes = _changes(session, levels, [level.until - MICROSECOND for level in levels])
    periods = _periods(session, levels)
    folded = [
        accrue(
            Opening(level.accrued_until, level.opening, level.peak),
            changes.get((level.customer_id, level.meter_id), ()),
            periods.get(level.customer_id, ()),
            until=level.until,
            bills_as=catalog.meters[level.meter].bills_as or "time_weighted",
        )
        for level in levels
    ]
    _write(session, levels, folded)
    return Closed(len(levels), _costly(hour for fold in folded for hour in fold.hours))


def settle_ended(
    session: Session, catalog: Catalog, *, now: datetime, settle_seconds: float, limit: int = MAX_LEVELS
) -> Closed:
    """Write what levels cost in an open hour for periods that ended within it at least `settle_seconds` ago; how many
    such parts. The caller commits, and calls again until there is none. Waits as `close_hours` does.
    """
    billed = [meter.key for meter in catalog.meters.values() if meter.is_level]
    ended_by = now - timedelta(seconds=settle_seconds)
    wanted = {"since": floor_hour(ended_by) - HOUR, "ended_by": ended_by, "meters": billed, "most": limit}
    partitions = {row.partition for row in session.execute(statement("ended_levels"), {**wanted, "partitions": None})}
    if not partitions:
        return Closed()
    _lock(session, partitions)
    rows = session.execute(statement("ended_levels"), {**wanted, "partitions": sorted(partitions)}).all()
    changes = _changes(session, rows, [row.ends_at - MICROSECOND for row in rows])
    parts = [(row, _last_part(row, changes, catalog)) for row in rows]
    _write_hours(session, parts)
    return Closed(len(rows), _costly(part for _, part in parts))


def _costly(hours: Iterable[HourAccrual]) -> frozenset[int]:
    return frozenset(hour.period_id for hour in hours if hour.units)


def _last_part(row: Any, changes: Mapping[tuple[int, int], Sequence[Change]], catalog: Catalog) -> HourAccrual:
    folded = accrue(
        Opening(row.accrued_until, row.opening, row.peak),
        changes.get((row.customer_id, row.meter_id), ()),
        [Span(row.period_id, row.starts_at, row.ends_at)],
        until=row.accrued_until + HOUR,
        bills_as=catalog.meters[row.meter].bills_as or "time_weighted",
    )
    return folded.hours[-1]


def accrued(session: Session, period: Period, *, now: datetime) -> dict[str, Decimal]:
    """What each level of a customer accrued in its `period` until `now`, by meter key; always whole units.

    Unit-seconds for meters billed time-weighted, the highest level so far for those billed by their maximum: the hours
    that are closed, and those that are not, folded in the same way. So closing an hour changes no answer.
    """
    return accrued_in(session, [period], now=now)[period.id]


def accrued_in(session: Session, periods: Collection[Period], *, now: datetime) -> dict[int, dict[str, Decimal]]:
    """The same of many periods, by their ids, in as many statements as of one."""
    units: dict[int, dict[str, Decimal]] = {period.id: {} for period in periods}
    begun = {period.id: period for period in periods if period.starts_at <= now}
    if not begun:
        return units
    wanted = {"customer_ids": [one.customer_id for one in begun.values()], "period_ids": list(begun)}
    levels = session.execute(statement("accrued_levels"), wanted).all()
    for level in levels:
        units[level.period_id][level.meter] = Decimal(level.closed_units)
    as_of = {period.id: min(now, period.ends_at) for period in begun.values()}
    # An event of this very instant counts already: who takes a seat sees it at once.
    open_levels = [level for level in levels if level.accrued_until <= as_of[level.period_id]]
    latest: dict[
        tuple[int, int], tuple[Any, datetime]
    ] = {}  # a level is looked at once, however many of its periods are
    for level in sorted(open_levels, key=lambda level: as_of[level.period_id]):
        latest[level.customer_id, level.meter_id] = level, as_of[level.period_id]
    changes = _changes(session, [level for level, _ in latest.values()], [until for _, until in latest.values()])
    for level in open_levels:
        until = as_of[level.period_id]
        folded = accrue(
            Opening(level.accrued_until, level.opening, level.peak),
            [one for one in changes.get((level.customer_id, level.meter_id), ()) if one.time <= until],
            [Span(level.period_id, begun[level.period_id].starts_at, begun[level.period_id].ends_at)],
            until=floor_hour(until) + HOUR,
            bills_as=level.bills_as,
            as_of=until,
        )
        units[level.period_id][level.meter] += sum(hour.units for hour in folded.hours)
    return units


def _due(session: Session, wanted: dict[str, Any], partitions: Sequence[int] | None) -> list[Any]:
    """Levels with hours to close, as many as one transaction should take."""
    levels: list[Any] = []
    hours = 0
    for level in session.execute(statement("due_levels"), {**wanted, "partitions": partitions}).all():
        hours += level.hours
        if levels and hours > MAX_HOURS:
            break
        levels.append(level)
    return levels


def _lock(session: Session, partitions: Iterable[int]) -> None:
    """Hold these partitions until the transaction ends; waits for whoever drains them."""
    session.execute(
        select(PartitionRow.partition)
        .where(PartitionRow.partition.in_(partitions))
        .order_by(PartitionRow.partition)
        .with_for_update()
    )


def _changes(
    session: Session, levels: Sequence[_Level], until: Sequence[datetime]
) -> dict[tuple[int, int], list[Change]]:
    """The changes of each level from its `accrued_until` up to and including `until`, by (customer id, meter id)."""
    if not levels:
        return {}
    since = [level.accrued_until for level in levels]
    rows = session.execute(
        statement("level_changes"),
        {
            "customer_ids": [level.customer_id for level in levels],
            "meter_ids": [level.meter_id for level in levels],
            "since": since,
            "until": list(until),
        },
    )
    return {(row.customer_id, row.meter_id): list(map(Change, row.times, row.ops, row.units)) for row in rows}


def _periods(session: Session, levels: Sequence[Any]) -> dict[int, list[Span]]:
    """The periods that the hours to close lie in, by customer."""
    ranges: dict[int, tuple[datetime, datetime]] = {}
    for level in levels:
        since, until = ranges.get(level.customer_id, (level.accrued_until, level.until))
        ranges[level.customer_id] = min(since, level.accrued_until), max(until, level.until)
    rows = session.execute(
        statement("periods_between"),
        {
            "customer_ids": list(ranges),
            "since": [since for since, _ in ranges.values()],
            "until": [until for _, until in ranges.values()],
        },
    )
    return {
        customer_id: [Span(row.id, row.starts_at, row.ends_at) for row in group]
        for customer_id, group in groupby(rows, key=lambda row: row.customer_id)
    }


def _write(session: Session, levels: Sequence[Any], folded: Sequence[Folded]) -> None:
    _write_hours(session, [(level, hour) for level, fold in zip(levels, folded, strict=True) for hour in fold.hours])
    session.execute(
        statement("move_levels"),
        {
            "customer_ids": [level.customer_id for level in levels],
            "meter_ids": [level.meter_id for level in levels],
            "openings": [fold.level for fold in folded],
            "until": [level.until for level in levels],
        },
    )


def _write_hours(session: Session, hours: Sequence[tuple[_Level, HourAccrual]]) -> None:
    session.execute(
        statement("write_accruals"),
        {
            "customer_ids": [level.customer_id for level, _ in hours],
            "meter_ids": [level.meter_id for level, _ in hours],
            "period_ids": [hour.period_id for _, hour in hours],
            "hours": [hour.hour for _, hour in hours],
            "units": [hour.units for _, hour in hours],
            "closings": [hour.closing for _, hour in hours],
            "peaks": [hour.peak for _, hour in hours],
        },
    )
