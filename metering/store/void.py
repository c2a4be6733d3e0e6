"""Taking usage back, or putting it right: audited, and carried into rollups, levels, live counters and what is owed.

An event is never changed: voiding marks it, correcting voids it and stores a replacement under an identity of its own.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Text, cast, insert, select
from sqlalchemy.orm import Session

from metering.catalog import Catalog
from metering.clock import floor_hour, to_micros
from metering.errors import Conflict, NotFound
from metering.ids import identity_digest
from metering.intake.event import UsageEvent
from metering.models import AuditEntry, Correction, Customer, Event, MeterRow, SetAside
from metering.store.batch import Stored, fold_levels, store_rows
from metering.store.drain import lock_partition
from metering.store.sql import statement
from metering.store.stream import decode


def void(
    session: Session, customer: Customer, source: str, id: str, *, reason: str, actor: str, now: datetime
) -> Event:
    """Take one event back. Everything it counted in follows in the same transaction, its live counter right after.

    Raises:
        NotFound: there is no such event (it may not have been drained yet).
        Conflict: it was voided before.
    """
    lock_partition(session, customer.partition)
    event = _find(session, customer, source, id)
    if event.voided_at is not None:
        raise Conflict("this event was voided before", id=id, voided_at=event.voided_at)
    event.voided_at = now
    session.flush()
    _take_back(session, customer, event)
    detail = {"source": source, "id": id, "reason": reason, "units": event.units}
    session.add(AuditEntry(at=now, actor=actor, action="event.void", customer_id=customer.id, detail=detail))
    return event


def correct(
    session: Session,
    catalog: Catalog,
    customer: Customer,
    source: str,
    id: str,
    quantity: object,
    *,
    reason: str,
    actor: str,
    now: datetime,
) -> str:
    """Void an event and store it anew with another quantity; the id of the replacement.

    Raises:
        NotFound, Conflict: as `void`.
        BadQuantity: the new quantity cannot be counted.
    """
    event = _find(session, customer, source, id)
    meter_key = session.get_one(MeterRow, event.meter_id).key
    meter = catalog.meter(meter_key)
    if meter.aggregates.reads_values:
        raise Conflict("this meter counts different values, not quantities: void the event and send another", id=id)
    units = meter.to_units(quantity, signed=event.op in ("change", "observe"))
    void(session, customer, source, id, reason=reason, actor=actor, now=now)
    revised = f"{id}~{to_micros(now)}"
    replacement = UsageEvent(
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
        payload=event.digest.hex,
    )
    stored = _store_outside_the_stream(session, customer, replacement, (event.position, event.item))
    if stored.faults:
        raise Conflict(f"the replacement cannot be stored: {stored.faults[0].reason}", id=id)
    return revised


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


def _find(session: Session, customer: Customer, source: str, id: str) -> Event:
    digest = UUID(identity_digest(customer.key, source, id))
    query = select(Event).where(Event.digest == digest).execution_options(populate_existing=True)
    event = session.scalars(query).one_or_none()
    if event is None:
        raise NotFound("there is no such event", source=source, id=id)
    return event


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
