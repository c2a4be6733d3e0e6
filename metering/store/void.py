"""Taking usage back, or putting it right: audited, and carried into rollups, levels, live counters and what is owed.

An event is never changed: voiding marks it, correcting voids it and stores a replacement under an identity of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Text, cast, insert, select
from sqlalchemy.orm import Session

from metering import exact_json
from metering.catalog import Catalog
from metering.clock import floor_hour, to_micros
from metering.errors import Conflict, NotFound, UnknownCustomer
from metering.ids import identity_digest
from metering.intake.admission import Intake
from metering.intake.event import UsageEvent, make_event
from metering.models import AuditEntry, Correction, Customer, Event, MeterRow, SetAside
from metering.store import inbox
from metering.store.batch import Stored, fold_levels, store_rows
from metering.store.corrections import REVISED
from metering.store.drain import lock_partition
from metering.store.lowering import levels_kept
from metering.store.sql import statement
from metering.store.stream import decode


@dataclass(frozen=True, slots=True)
class Replacement:
    """What a message that was set aside should have said; `quantity` in the meter's unit."""

    customer: str
    meter: str
    quantity: object


def void(
    session: Session,
    intake: Intake,
    customer: Customer,
    source: str,
    id: str,
    *,
    reason: str,
    actor: str,
    now: datetime,
) -> Event:
    """Take one event back, on every meter that counted it; the event as the first of them did.

    Everything it counted in follows in the same transaction, its live counters right after.

    Raises:
        NotFound: there is no such event (it may not have been drained yet).
        Conflict: it was voided before, or a level would fall below zero: what lowers it must be voided first.
        IntakeUnavailable: a level would fall, and Redis cannot say whether below zero.
    """
    lock_partition(session, customer.partition)
    counted = _find(session, customer, source, id)
    standing = [event for event in counted if event.voided_at is None]
    if not standing:
        raise Conflict("this event was voided before", id=id, voided_at=counted[0].voided_at)
    with levels_kept(session, intake, customer, standing):
        for event in standing:
            _void(session, customer, event, reason, actor, now)
    return counted[0]


def correct(
    session: Session,
    intake: Intake,
    catalog: Catalog,
    customer: Customer,
    source: str,
    id: str,
    quantity: object,
    *,
    reason: str,
    actor: str,
    now: datetime,
    meter: str | None = None,
) -> UsageEvent:
    """Void an event and store it anew with another quantity; the replacement.

    `meter` says on which one, where several count the event; on the others it stays as it is.

    Raises:
        NotFound, Conflict, IntakeUnavailable: as `void`; or several meters count it and none is named.
        BadQuantity: the new quantity cannot be counted.
    """
    lock_partition(session, customer.partition)
    event, meter_key = _counted_on(session, _find(session, customer, source, id), meter)
    if event.voided_at is not None:
        raise Conflict("this event was voided before", id=id, voided_at=event.voided_at)
    if catalog.meter(meter_key).aggregates.counts_events:
        raise Conflict(f"{meter_key} counts events, whatever is in them: void this one instead", id=id)
    units = catalog.meter(meter_key).to_units(quantity, signed=event.op in ("change", "observe"))
    is_first = event.digest.hex == identity_digest(customer.key, source, id)
    revised = f"{id}{REVISED}{to_micros(now)}"
    replacement = UsageEvent(
        digest=identity_digest(customer.key, source, revised, "" if is_first else meter_key),
        payload=event.digest.hex,
        customer=customer.key,
        meter=meter_key,
        op=event.op,  # type: ignore[arg-type]  # the table's check constraint knows the same four
        units=units,
        time=to_micros(event.time),
        admitted=to_micros(now),
        source=source,
        id=revised,
        key_id=event.key_id,
        grp=event.grp,
        properties=_properties_text(session, event),
    )
    with levels_kept(session, intake, customer, [event]):
        _void(session, customer, event, reason, actor, now)
        stored = _store_outside_the_stream(session, customer, replacement, (event.position, event.item))
    if stored.faults:
        raise Conflict(f"the replacement cannot be stored: {stored.faults[0].reason}", id=id)
    return replacement


def replay_set_aside(session: Session, set_aside_id: int, *, actor: str, now: datetime) -> Stored:
    """Try a message again that was set aside, after its cause was mended.

    Raises:
        NotFound: there is no such message, or it was resolved before.
        Conflict: it still cannot become an event; it stays set aside.
    """
    kept = _waiting(session, set_aside_id)
    lock_partition(session, kept.partition)
    try:
        row = decode(kept.partition, kept.position, kept.item, b"0||0|", kept.message)
    except (ValueError, TypeError) as error:
        raise Conflict(f"this message is no event: {error}", id=set_aside_id) from None
    stored = store_rows(session, [row])
    if stored.faults:
        raise Conflict(f"it would be set aside again: {stored.faults[0].reason}", id=set_aside_id)
    kept.resolved_at, kept.resolution = now, "replayed"
    session.add(AuditEntry(at=now, actor=actor, action="set_aside.replay", detail={"id": set_aside_id}))
    return stored


def replace_set_aside(
    session: Session,
    intake: Intake,
    catalog: Catalog,
    set_aside_id: int,
    wanted: Replacement,
    *,
    reason: str,
    actor: str,
    now: datetime,
) -> UsageEvent:
    """Record what a message should have said, in its stead: a new event, which the inbox takes through the intake.

    It keeps the message's source, id, time and properties where they can be read, so that the sender's repetition
    counts once; where that identity is taken (`conflict`) it gets one of its own. What cannot be counted when its turn
    comes is set aside anew.

    Raises:
        NotFound: there is no such message, or it was resolved before.
        UnknownCustomer, UnknownMeter, BadQuantity, InvalidUsage: it cannot be recorded as it is wanted.
    """
    kept = _waiting(session, set_aside_id)
    customer = session.scalar(select(Customer.key).where(Customer.key == wanted.customer))
    if customer is None:
        raise UnknownCustomer(f"there is no customer {wanted.customer!r}", customer=wanted.customer)
    said = read_message(kept)
    meter = catalog.meter(wanted.meter)
    id = said.id if said else f"set-aside-{kept.id}"
    event = make_event(
        meter,
        customer=customer,
        quantity=wanted.quantity,
        source=said.source if said else "operator",
        id=f"{id}{REVISED}{to_micros(now)}" if kept.reason == "conflict" else id,
        admitted=to_micros(now),
        time=said.time if said else to_micros(kept.created_at),
        outright=said is not None and said.op == "set",
        properties=exact_json.parse(said.properties) if said else None,
        key_id=said.key_id if said else None,
    )
    inbox.put(session, intake, [event])
    kept.resolved_at, kept.resolution = now, "replaced"
    detail = {"id": set_aside_id, "customer": customer, "meter": meter.key, "quantity": str(wanted.quantity)}
    detail |= {"event": event.id, "reason": reason}
    session.add(AuditEntry(at=now, actor=actor, action="set_aside.replace", detail=detail))
    return event


def read_message(kept: SetAside) -> UsageEvent | None:
    """The event that a message tells of; None where it is none that the intake writes."""
    try:
        decode(kept.partition, kept.position, kept.item, b"0||0|", kept.message)
        return UsageEvent.from_message(kept.message)
    except (ValueError, TypeError):
        return None


def waiting_messages(session: Session, *, after: int = 0, limit: int | None = None) -> Sequence[SetAside]:
    """Messages that wait for a decision, oldest first; those behind the id `after`."""
    query = select(SetAside).where(SetAside.resolved_at.is_(None), SetAside.id > after)
    return session.scalars(query.order_by(SetAside.id).limit(limit)).all()


def dismiss_set_aside(session: Session, set_aside_id: int, *, reason: str, actor: str, now: datetime) -> None:
    """Decide that a message will never become an event; it is kept. Raises NotFound."""
    kept = _waiting(session, set_aside_id)
    kept.resolved_at, kept.resolution = now, "dismissed"
    detail = {"id": set_aside_id, "reason": reason}
    session.add(AuditEntry(at=now, actor=actor, action="set_aside.dismiss", detail=detail))


def _waiting(session: Session, set_aside_id: int) -> SetAside:
    kept = session.get(SetAside, set_aside_id, with_for_update=True)
    if kept is None or kept.resolved_at is not None:
        raise NotFound("no message that waits has this number", id=set_aside_id)
    return kept


def _find(session: Session, customer: Customer, source: str, id: str) -> list[Event]:
    """An event as each of its meters counted it, the first of them first. Raises NotFound."""
    first = identity_digest(customer.key, source, id)
    further = [identity_digest(customer.key, source, id, key) for key in session.scalars(select(MeterRow.key))]
    digests = [UUID(digest) for digest in (first, *further)]
    query = select(Event).where(Event.digest.in_(digests)).execution_options(populate_existing=True)
    found = {event.digest: event for event in session.scalars(query)}
    if not found:
        raise NotFound("there is no such event", source=source, id=id)
    return [found[digest] for digest in digests if digest in found]


def _counted_on(session: Session, counted: list[Event], meter: str | None) -> tuple[Event, str]:
    """The one of these that `meter` counted, and its key. Raises NotFound, Conflict."""
    keys = {event.meter_id: session.get_one(MeterRow, event.meter_id).key for event in counted}
    if meter is None and len(counted) > 1:
        raise Conflict(f"several meters count this event: say which of {', '.join(keys.values())}")
    wanted = [event for event in counted if meter in (None, keys[event.meter_id])]
    if not wanted:
        raise NotFound(f"the meter {meter!r} does not count this event", meter=meter)
    return wanted[0], keys[wanted[0].meter_id]


def _void(session: Session, customer: Customer, event: Event, reason: str, actor: str, now: datetime) -> None:
    event.voided_at = now
    session.flush()
    _take_back(session, customer, event)
    detail = {"source": event.source, "id": event.event_id, "reason": reason, "units": event.units}
    session.add(AuditEntry(at=now, actor=actor, action="event.void", customer_id=customer.id, detail=detail))


def _properties_text(session: Session, event: Event) -> str:
    """As they are stored: numbers read into Python would lose digits, and with them the value that is counted."""
    query = select(cast(Event.properties, Text)).where(Event.digest == event.digest, Event.time == event.time)
    return session.scalars(query).one()


def _take_back(session: Session, customer: Customer, event: Event) -> None:
    meter = session.get_one(MeterRow, event.meter_id)
    session.execute(
        statement("recompute_rollup"),
        {
            "customer_id": event.customer_id,
            "meter_id": event.meter_id,
            "period_id": event.period_id,
            "hour": floor_hour(event.time),
            "grp": event.grp,
        },
    )
    units, period_id = (-event.units, event.period_id) if event.op == "add" else (0, None)
    if event.op in ("change", "set"):
        folded = fold_levels(session, [(event.customer_id, event.meter_id, to_micros(event.counted_at))])
        before, after = folded[event.customer_id, event.meter_id]
        units = after - before
    if units:
        correction = {"partition": customer.partition, "customer": customer.key, "meter": meter.key}
        session.execute(insert(Correction), [{**correction, "period_id": period_id, "units": units}])


def _store_outside_the_stream(
    session: Session, customer: Customer, event: UsageEvent, place: tuple[int, int]
) -> Stored:
    """Store an event that no script has counted: the correction that brings it to its live counter has all of it."""
    row = decode(customer.partition, *place, b"0||0|", event.message())
    return store_rows(session, [row])
