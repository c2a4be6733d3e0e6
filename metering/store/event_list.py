"""The list of stored events, newest first, a page at a time; and one event by its identity.

Always holds: pages are cut by the key (time, digest), never by counting rows, so that each page costs what the first
one does and no event is shown twice or left out because others came in meanwhile. With `customers`, nothing of anybody
else is read.

Events of certain customers are read by meter and time, a step of the index for each row. Over all customers they are
read by time alone. Filters beyond that are looked at row by row: with one that few events pass, give a range of time.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Subquery, Text, and_, cast, func, select, text, true, tuple_
from sqlalchemy.orm import Session, aliased

from metering.catalog.aggregations import to_quantity
from metering.clock import from_micros, to_micros
from metering.errors import InvalidQuery
from metering.ids import identity_digest
from metering.intake.event import UNSTORABLE
from metering.models import Customer, Event, MeterRow, Period
from metering.store.corrections import REVISED, Fact, Telling, tellings

MAX_LIMIT = 100
MAX_FILTERS = 20
MICROS_BYTES, DIGEST_BYTES = 8, 16


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are listed; None means any. `customers` and `meters` are keys, `from_` to `to` is half-open and over
    the time of the event, `properties` are texts that top-level properties must be equal to.
    """

    customers: Sequence[str] | None = None
    meters: Sequence[str] | None = None
    source: str | None = None
    id: str | None = None
    from_: datetime | None = None
    to: datetime | None = None
    key_id: int | None = None
    late: bool | None = None
    overshoot: bool | None = None
    voided: bool | None = None
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as it is stored. `digest`, 32 hex digits, is its public id; `quantity` is in the meter's unit.

    `op` is "add", "change", "set" or "observe"; `group` are its values of the meter's declared dimensions, None where
    it had none; `period_starts_at` to `period_ends_at` is the billing period it counts in. `corrected` is what
    stands in its place where it was corrected; `corrects` the event that was sent, in whose place it stands.
    """

    digest: str
    customer: str
    meter: str
    source: str
    id: str
    time: datetime
    quantity: Decimal
    op: str
    properties: Mapping[str, Any]
    group: Mapping[str, str | None]
    key_id: int | None
    recorded_at: datetime
    late: bool
    overshoot: bool
    voided_at: datetime | None
    period_starts_at: datetime
    period_ends_at: datetime
    corrected: Telling | None = None
    corrects: str | None = None


@dataclass(frozen=True, slots=True)
class Newest:
    """Scaled units of the newest events by the second of their time, since the epoch; voided ones are nothing.

    `is_cut`: there are more in the range than were read, so the earliest second may be incomplete.
    """

    units: Mapping[int, int]
    is_cut: bool


@dataclass(frozen=True, slots=True)
class EventPage:
    """`next_cursor` is None on the last page."""

    events: tuple[StoredEvent, ...]
    next_cursor: str | None


def list_events(
    session: Session, wanted: EventFilter, *, limit: int = MAX_LIMIT, cursor: str | None = None
) -> EventPage:
    """A page of up to `limit` events, after the one that `cursor` stands for.

    Raises:
        InvalidQuery: the limit is none of 1 to 100, the cursor is none of ours, or a filter cannot be stored.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidQuery(f"limit must lie between 1 and {MAX_LIMIT}", field="limit", most=MAX_LIMIT)
    _check(wanted)
    found = _described(session, _page(session, wanted, limit + 1, cursor))
    events, more = tuple(found[:limit]), len(found) > limit
    return EventPage(events, encode_cursor(events[-1].time, events[-1].digest) if more else None)


def newest_by_second(session: Session, customer_id: int, meter: str, *, since: datetime, most: int) -> Newest:
    """What a customer's newest events of a meter used, no more than `most` of them and none before `since`."""
    meter_id = select(MeterRow.id).where(MeterRow.key == meter).scalar_subquery()
    newest = (
        select(func.floor(func.extract("epoch", Event.time)).label("second"), Event.units, Event.voided_at)
        .where(Event.customer_id == customer_id, Event.meter_id == meter_id, Event.time >= since)
        .order_by(Event.time.desc(), Event.digest.desc())
        .limit(most)
        .subquery()
    )
    used = func.sum(newest.c.units).filter(newest.c.voided_at.is_(None))
    with _in_the_order_of_an_index(session):
        rows = session.execute(select(newest.c.second, used, func.count()).group_by(newest.c.second)).all()
    read = sum(count for _, _, count in rows)
    return Newest({int(second): int(units or 0) for second, units, _ in rows}, is_cut=read >= most)


@contextmanager
def _in_the_order_of_an_index(session: Session) -> Iterator[None]:
    """Have rows taken from the index until the limit is reached. Of the latest minutes the planner knows least:
    believing that there are few, it would read and sort all of them.
    """
    session.execute(text("SET LOCAL enable_sort = off"))
    yield
    session.execute(text("SET LOCAL enable_sort = on"))


def event_by_digest(session: Session, digest: str, *, customer: str | None = None) -> StoredEvent | None:
    """The event with this public id; with `customer`, only if it is theirs."""
    try:
        key = UUID(hex=digest)
    except ValueError:
        return None
    found = _described(session, select(Event).where(Event.digest == key))
    return next((event for event in found if customer is None or event.customer == customer), None)


def event_by_identity(session: Session, customer: str, source: str, id: str) -> StoredEvent | None:
    """The event that a customer's source calls `id`."""
    if UNSTORABLE.search(customer + source + id):
        return None
    return event_by_digest(session, identity_digest(customer, source, id), customer=customer)


def encode_cursor(time: datetime, digest: str) -> str:
    """The place of an event in the list: its time and digest, base64url."""
    raw = to_micros(time).to_bytes(MICROS_BYTES, "big", signed=True) + bytes.fromhex(digest)
    return urlsafe_b64encode(raw).decode()


def decode_cursor(cursor: str) -> tuple[datetime, UUID]:
    """Raises InvalidQuery for what `encode_cursor` cannot have written."""
    try:
        raw = urlsafe_b64decode(cursor.encode("ascii"))
        time = from_micros(int.from_bytes(raw[:MICROS_BYTES], "big", signed=True))
        digest = UUID(bytes=raw[MICROS_BYTES:])
    except (ValueError, OverflowError):
        raise InvalidQuery("this cursor is none that a list of events gave out", field="cursor") from None
    if encode_cursor(time, digest.hex) != cursor:
        raise InvalidQuery("this cursor is none that a list of events gave out", field="cursor")
    return time, digest


def _page(session: Session, wanted: EventFilter, most: int, cursor: str | None) -> Select[Any]:
    """The rows of `events` that make a page and one more, newest first."""
    passing = _conditions(wanted)
    if cursor is not None:
        time, digest = decode_cursor(cursor)
        passing += [Event.time <= time, tuple_(Event.time, Event.digest) < tuple_(time, digest)]
    newest = (Event.time.desc(), Event.digest.desc())
    if wanted.customers is None:
        passing.append(Event.customer_id > 0)  # so that the index over all customers may serve
        if wanted.meters is not None:
            # Their ids, not a join with their table: the rows shall keep coming in the order of the index.
            meters = session.scalars(select(MeterRow.id).where(MeterRow.key.in_(wanted.meters))).all()
            passing.append(Event.meter_id.in_(meters))
        return select(Event).where(*passing).order_by(*newest).limit(most)
    each = _pairs(wanted)
    own = and_(Event.customer_id == each.c.customer_id, Event.meter_id == each.c.meter_id)
    theirs = select(Event).where(own, *passing).order_by(*newest).limit(most).lateral()
    return (
        select(theirs)
        .select_from(each)
        .join(theirs, true())
        .order_by(theirs.c.time.desc(), theirs.c.digest.desc())
        .limit(most)
    )


def _pairs(wanted: EventFilter) -> Subquery:
    """Each wanted customer with each wanted meter: where the index can be walked in the order of time."""
    pairs = select(Customer.id.label("customer_id"), MeterRow.id.label("meter_id")).join(MeterRow, true())
    pairs = pairs.where(Customer.key.in_(wanted.customers or ()))
    if wanted.meters is not None:
        pairs = pairs.where(MeterRow.key.in_(wanted.meters))
    return pairs.subquery()


def _conditions(wanted: EventFilter) -> list[ColumnElement[bool]]:
    equal = {
        Event.source: wanted.source,
        Event.event_id: wanted.id,
        Event.key_id: wanted.key_id,
        Event.late: wanted.late,
        Event.overshoot: wanted.overshoot,
    }
    found: list[ColumnElement[bool]] = [column == value for column, value in equal.items() if value is not None]
    if wanted.voided is not None:
        found.append(Event.voided_at.is_not(None) if wanted.voided else Event.voided_at.is_(None))
    if wanted.from_ is not None:
        found.append(Event.time >= wanted.from_)
    if wanted.to is not None:
        found.append(Event.time < wanted.to)
    if wanted.customers is not None and wanted.source is not None and wanted.id is not None:
        identities = [identity_digest(key, wanted.source, wanted.id) for key in wanted.customers]
        found.append(Event.digest.in_([UUID(digest) for digest in identities]))
    found += [Event.properties[name].astext == value for name, value in wanted.properties.items()]
    return found


def _described(session: Session, page: Select[Any]) -> list[StoredEvent]:
    """These rows of `events`, newest first, with the names of what they refer to."""
    event = aliased(Event, page.subquery())
    rows = session.execute(
        select(
            event.digest,
            Customer.key.label("customer"),
            MeterRow.key.label("meter"),
            event.source,
            event.event_id,
            event.time,
            event.units,
            MeterRow.scale,
            event.op,
            cast(event.properties, Text).label("properties"),
            event.grp,
            event.key_id,
            event.recorded_at,
            event.late,
            event.overshoot,
            event.voided_at,
            Period.starts_at,
            Period.ends_at,
            event.customer_id,
            event.meter_id,
            event.position,
            event.item,
        )
        .join(Customer, Customer.id == event.customer_id)
        .join(MeterRow, MeterRow.id == event.meter_id)
        .join(Period, Period.id == event.period_id)
        .order_by(event.time.desc(), event.digest.desc())
    ).all()
    told = tellings(session, [_fact(row) for row in rows if row.voided_at or REVISED in row.event_id])
    return [_stored(row, told.get(_fact(row), ())) for row in rows]


def _fact(row: Any) -> Fact:
    return Fact(row.customer_id, row.meter_id, row.time, row.position, row.item, row.source)


def _stored(row: Any, told: Sequence[Telling]) -> StoredEvent:
    """`told`: how the fact was told, where it may have been told more than once."""
    first, last = (told[0].digest, told[-1]) if told else (row.digest.hex, None)
    return StoredEvent(
        digest=row.digest.hex,
        customer=row.customer,
        meter=row.meter,
        source=row.source,
        id=row.event_id,
        time=row.time,
        quantity=to_quantity(row.units, row.scale),
        op=row.op,
        properties=json.loads(row.properties, parse_float=Decimal),
        group={name: value or None for name, value in json.loads(row.grp).items()},
        key_id=row.key_id,
        recorded_at=row.recorded_at,
        late=row.late,
        overshoot=row.overshoot,
        voided_at=row.voided_at,
        period_starts_at=row.starts_at,
        period_ends_at=row.ends_at,
        corrected=last if last and last.digest != row.digest.hex else None,
        corrects=first if first != row.digest.hex else None,
    )


def _check(wanted: EventFilter) -> None:
    """Raises InvalidQuery for texts that no event can hold."""
    if len(wanted.properties) > MAX_FILTERS:
        raise InvalidQuery(f"more than {MAX_FILTERS} filters", field="properties", most=MAX_FILTERS)
    texts = {
        "customers": wanted.customers or (),
        "meters": wanted.meters or (),
        "source": [wanted.source or ""],
        "id": [wanted.id or ""],
        "properties": [*wanted.properties, *wanted.properties.values()],
    }
    for name, values in texts.items():
        if any(UNSTORABLE.search(value) for value in values):
            raise InvalidQuery(f"{name}: a value holds what no event can hold", field=name)
