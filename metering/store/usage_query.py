"""The usage query: what a meter counted, by window of the local clock and by dimensions.

Always holds: a value is exact and the same whichever source it was read from; a voided event counts nowhere; usage
counts at the time it happened, a level from the instant it takes effect for the bill (`counted_at`). The cost follows
the hours and groups that are read, not the number of events, wherever rollups suffice (`sources_of`).

A level belongs to a customer as a whole. The levels of several customers that are not told apart are one: their sum.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy import Select, func, select, true
from sqlalchemy.orm import Session

from metering.catalog import Meter
from metering.catalog.aggregations import LevelTotals, Totals
from metering.catalog.schema import RESERVED_DIMENSION
from metering.errors import InvalidQuery
from metering.intake.event import MAX_GROUP_VALUE, MAX_NAME, UNSTORABLE
from metering.models import Customer, Event, MeterRow
from metering.store.sql import statement
from metering.store.usage_reading import LevelReading, Reading, Source, level_reading, reading
from metering.store.windows import WindowSize, edges, window_around

MAX_ROWS = 50_000
MAX_DIMENSIONS = 20
MAX_FILTER_VALUES = 1_000

UTC_ZONE = ZoneInfo("UTC")
SUBJECT = RESERVED_DIMENSION
CUSTOMER_ID = "customerId"
KEY_ID = "keyId"
"""The API key that an event came by; rollups know nothing of it."""

CUSTOMER_NAMES = (SUBJECT, CUSTOMER_ID)
"""Both are the customer's key: usage has no other subject."""


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """What is asked of a meter between `from_` (None: its first event) and `to` (None: now), which is not included.

    `customers` are keys; None means all. `group_by` names declared dimensions of the meter, other top-level properties
    of its events, "keyId", "subject" or "customerId". `filters` holds the values of such names that count; an empty
    text stands for events without one. Values are text as `intake.event.group_of` writes them.
    """

    meter: Meter
    from_: datetime | None = None
    to: datetime | None = None
    window_size: WindowSize | None = None
    timezone: ZoneInfo = UTC_ZONE
    customers: Sequence[str] | None = None
    group_by: Sequence[str] = ()
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def by_customer(self) -> bool:
        return any(name in CUSTOMER_NAMES for name in self.group_by)

    @property
    def dimensions(self) -> list[str]:
        """The names that usage is grouped by, apart from the customer; each once."""
        return list(dict.fromkeys(name for name in self.group_by if name not in CUSTOMER_NAMES))

    @property
    def property_filters(self) -> dict[str, list[str]]:
        return {name: list(values) for name, values in self.filters.items() if name not in CUSTOMER_NAMES}

    @property
    def undeclared(self) -> list[str]:
        """Names that rollups know nothing of."""
        return sorted({*self.dimensions, *self.property_filters} - self.meter.group_by.keys())

    @property
    def customer_keys(self) -> set[str] | None:
        """The customers whose usage counts, None for all: a filter can only narrow them."""
        wanted = [self.customers, *(self.filters.get(name) for name in CUSTOMER_NAMES)]
        sets = [set(keys) for keys in wanted if keys is not None]
        return set.intersection(*sets) if sets else None


@dataclass(frozen=True, slots=True)
class UsageRow:
    """The value of a window `[window_start, window_end)`, in the meter's unit; the windows are cut to the range.

    `subject` and `customer_id` are None unless grouped by; a value in `group_by` is None where events had none.
    """

    window_start: datetime
    window_end: datetime
    value: Decimal
    subject: str | None = None
    customer_id: str | None = None
    group_by: Mapping[str, str | None] = field(default_factory=dict)


def query_usage(session: Session, query: UsageQuery, *, now: datetime) -> list[UsageRow]:
    """The rows of a query, in the order of windows, customers and groups. Windows without usage have none.

    Raises:
        InvalidQuery: it cannot be answered, or only with more than `MAX_ROWS` rows.
    """
    _check(query)
    meter_id = session.scalar(select(MeterRow.id).where(MeterRow.key == query.meter.key))
    customer_ids = _customer_ids(session, query)
    from_, to = _range(session, query, meter_id, customer_ids, now)
    if from_ is None or (query.from_ is None and from_ >= to):
        return []
    found = edges(from_, to, query.window_size, query.timezone)
    read = _levels if query.meter.is_level else _usage
    shared = {"meter_id": meter_id, "customer_ids": customer_ids, "by_customer": query.by_customer, "most": MAX_ROWS}
    rows = list(read(session, query, found, shared, now))
    if len(rows) > MAX_ROWS:
        raise InvalidQuery(f"the answer would have more than {MAX_ROWS} rows", field="group_by", most=MAX_ROWS)
    return rows


def _range(
    session: Session, query: UsageQuery, meter_id: int | None, customer_ids: Sequence[int] | None, now: datetime
) -> tuple[datetime | None, datetime]:
    """What is asked about. Where the query leaves an end open, the window there is a whole one; a level is known until
    now, and its last window with it.
    """
    from_ = query.from_ or _first_event(session, query.meter, meter_id, customer_ids)
    to = query.to or now
    if query.window_size is not None and from_ is not None:
        if query.from_ is None and from_ < to:
            from_ = window_around(from_, query.window_size, query.timezone)[0]
        if query.to is None and not query.meter.is_level:
            to = window_around(now, query.window_size, query.timezone)[1]
    return from_, to


def sources_of(query: UsageQuery, *, from_: datetime, to: datetime, now: datetime) -> frozenset[Source]:
    """Where a query over `[from_, to)` is read from. Raises InvalidQuery."""
    _check(query)
    found = edges(from_, to, query.window_size, query.timezone)
    if not query.meter.is_level:
        return _reading(query, found).sources
    level = _level_reading(query, found, now)
    return level.sources if level else frozenset()


def _usage(
    session: Session, query: UsageQuery, found: Sequence[datetime], shared: dict[str, Any], now: datetime
) -> Iterator[UsageRow]:
    plan = _reading(query, found)
    meter, declared = query.meter, query.meter.group_by.keys()
    filters = query.property_filters
    rows = session.execute(
        statement("usage"),
        {
            **shared,
            "edges": list(plan.edges),
            "from": plan.edges[0],
            "to": plan.edges[-1],
            "hours_from": plan.hours_from,
            "hours_until": plan.hours_until,
            "cut_hours": list(plan.cut_hours),
            "stretch_starts": [starts for starts, _ in plan.stretches],
            "stretch_ends": [ends for _, ends in plan.stretches],
            "by_group": bool(declared & {*query.dimensions, *filters}),
            "reads_latest": meter.aggregates.reads_latest,
            "undeclared": query.undeclared,
            "longest": MAX_GROUP_VALUE,
            "value_path": meter.value_property.split(".")[1:] if meter.aggregates.reads_values else None,
            "dimensions": query.dimensions,
            "filters": orjson.dumps(filters).decode(),
        },
    )
    for row in rows:
        latest = None if row.latest is None else row.latest[-1]
        totals = Totals(int(row.units), int(row.events), row.minimum, row.maximum, latest, row.distinct)
        value = meter.aggregates.value(totals, meter.scale)
        yield _row(query, found, row, value, dict(zip(query.dimensions, row.dimensions or (), strict=True)))


def _levels(
    session: Session, query: UsageQuery, found: Sequence[datetime], shared: dict[str, Any], now: datetime
) -> Iterator[UsageRow]:
    plan = _level_reading(query, found, now)
    if plan is None:
        return
    rows = session.execute(
        statement("usage_levels"),
        {
            **shared,
            "starts": plan.edges[:-1],
            "ends": plan.edges[1:],
            "until": plan.edges[-1],
            "first_hour": plan.first_hour,
            "cut_hours": list(plan.cut_hours),
            "closes_hours": plan.closes_hours,
        },
    )
    for row in rows:
        totals = LevelTotals(int(row.closing), int(row.peak), int(row.weighed), int(row.micros))
        yield _row(query, found, row, query.meter.aggregates.level_value(totals, query.meter.scale), {})


def _row(
    query: UsageQuery, found: Sequence[datetime], row: Any, value: Decimal, group: Mapping[str, str | None]
) -> UsageRow:
    return UsageRow(
        window_start=found[row.place - 1],
        window_end=found[row.place],
        value=value,
        subject=row.customer if SUBJECT in query.group_by else None,
        customer_id=row.customer if CUSTOMER_ID in query.group_by else None,
        group_by=group,
    )


def _reading(query: UsageQuery, found: Sequence[datetime]) -> Reading:
    return reading(found, from_rollups=query.meter.aggregates.from_rollups and not query.undeclared)


def _level_reading(query: UsageQuery, found: Sequence[datetime], now: datetime) -> LevelReading | None:
    return level_reading(found, closes_hours=query.meter.aggregates.closes_hours, now=now.astimezone(UTC))


def _customer_ids(session: Session, query: UsageQuery) -> list[int] | None:
    keys = query.customer_keys
    if keys is None:
        return None
    return list(session.scalars(select(Customer.id).where(Customer.key.in_(keys)))) if keys else []


def _first_event(
    session: Session, meter: Meter, meter_id: int | None, customer_ids: Sequence[int] | None
) -> datetime | None:
    """When the first event of these customers counted."""
    counted = Event.counted_at if meter.is_level else Event.time
    first = (
        select(counted.label("at"))
        .where(Event.customer_id == Customer.id, Event.meter_id == meter_id, Event.voided_at.is_(None))
        .order_by(counted)
        .limit(1)
    )
    if meter.is_level:
        first = first.where(Event.op.in_(("change", "set")))
    each = first.lateral()
    query: Select[Any] = select(func.min(each.c.at)).select_from(Customer).join(each, onclause=true())
    if customer_ids is not None:
        query = query.where(Customer.id.in_(customer_ids))
    at: datetime | None = session.scalar(query)
    return at


def _check(query: UsageQuery) -> None:
    """Raises InvalidQuery for names and values that no event can have, and for a level that is taken apart."""
    names = [*query.group_by, *query.filters]
    if len(names) > MAX_DIMENSIONS:
        raise InvalidQuery(f"more than {MAX_DIMENSIONS} dimensions and filters", field="group_by", most=MAX_DIMENSIONS)
    for name in names:
        if not name or len(name) > MAX_NAME or UNSTORABLE.search(name):
            raise InvalidQuery(f"{name!r} names no property of an event", field=name)
    if query.meter.is_level and (query.dimensions or query.property_filters):
        raise InvalidQuery(f"a level belongs to its customer as a whole: group it by {SUBJECT}", field="group_by")
    for name, values in [("customers", query.customers or ()), *query.filters.items()]:
        if len(values) > MAX_FILTER_VALUES:
            raise InvalidQuery(f"{name}: more than {MAX_FILTER_VALUES} values", field=name, most=MAX_FILTER_VALUES)
        if any(UNSTORABLE.search(value) for value in values):
            raise InvalidQuery(f"{name}: a value holds what no event can hold", field=name)
