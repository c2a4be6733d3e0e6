"""Events of customers or types that nobody knows yet: held, and counted once somebody does.

Always holds: an event is held once, under the identity that it will be counted under; it moves into the inbox in one
transaction, and from there through the intake like all usage.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from metering import exact_json
from metering.catalog import Catalog
from metering.clock import to_micros
from metering.errors import NotFound
from metering.ids import identity_digest, text_digest
from metering.intake.admission import Intake
from metering.intake.cloudevents import CloudEvent
from metering.intake.event import UsageEvent
from metering.intake.matching import InvalidEvents, place
from metering.models import AuditEntry, Customer, HeldEvent
from metering.store import inbox
from metering.store.batch import set_aside
from metering.store.stream import Fault

AT_ONCE = 500


def hold(session: Session, events: Sequence[CloudEvent], *, key_id: int | None, now: datetime) -> None:
    """Keep events; one that is held already stays as it is."""
    rows = [
        {
            "digest": _identity(one),
            "payload": UUID(_said(one)),
            "subject": one.subject,
            "type": one.type,
            "event": exact_json.write([one.id, one.source, one.time, one.data]).decode(),
            "key_id": key_id,
            "received_at": now,
        }
        for one in sorted(events, key=_identity)
    ]
    session.execute(insert(HeldEvent).on_conflict_do_nothing(), rows)


def conflicting(session: Session, events: Sequence[CloudEvent]) -> list[int]:
    """The places of events whose identity is held with another payload."""
    payloads = {
        row.digest: row.payload
        for row in session.execute(
            select(HeldEvent.digest, HeldEvent.payload).where(HeldEvent.digest.in_([_identity(one) for one in events]))
        )
    }
    return [one.index for one in events if payloads.setdefault(_identity(one), said := UUID(_said(one))) != said]


def release(session: Session, intake: Intake, catalog: Catalog, *, now: datetime) -> int:
    """Hand held events whose customer and meter are known by now to the inbox; how many. The caller commits.

    One that its meter cannot count is set aside with the reason.
    """
    rows = _releasable(session, list(catalog.meters_by_event_type))
    if not rows:
        return 0
    events: list[UsageEvent] = []
    faults: list[Fault] = []
    for row in rows:
        try:
            events += _usage(row, catalog, now)
        except InvalidEvents as wrong:
            partition = intake.partition(row.subject)
            faults.append(Fault(partition, 0, 0, b"", row.event.encode(), wrong.code, wrong.message, row.subject))
    inbox.put(session, intake, events)
    set_aside(session, faults)
    session.execute(delete(HeldEvent).where(HeldEvent.id.in_([row.id for row in rows])))
    return len(rows)


def held_events(session: Session, *, after: int, limit: int) -> Sequence[HeldEvent]:
    """What is held, oldest first; those behind the id `after`."""
    return session.scalars(select(HeldEvent).where(HeldEvent.id > after).order_by(HeldEvent.id).limit(limit)).all()


def drop(session: Session, held_id: int, *, reason: str, actor: str, now: datetime) -> None:
    """Decide that a held event will never count. Its sender may send it again, and it would be held again.

    Raises NotFound: it is not held (any more).
    """
    row = session.get(HeldEvent, held_id, with_for_update=True)
    if row is None:
        raise NotFound("no held event has this number", id=held_id)
    detail = {"id": held_id, "customer": row.subject, "type": row.type, "event": row.event, "reason": reason}
    session.add(AuditEntry(at=now, actor=actor, action="held.drop", detail=detail))
    session.delete(row)


def _releasable(session: Session, types: Sequence[str]) -> Sequence[HeldEvent]:
    query = (
        select(HeldEvent)
        .join(Customer, Customer.key == HeldEvent.subject)
        .where(HeldEvent.type.in_(types))
        .order_by(HeldEvent.id)
        .limit(AT_ONCE)
        .with_for_update(skip_locked=True, of=HeldEvent)
    )
    return session.scalars(query).all()


def _usage(row: HeldEvent, catalog: Catalog, now: datetime) -> list[UsageEvent]:
    """An event without a time happened when it was received; where its period is over it counts from now on."""
    id, source, time, data = exact_json.parse(row.event)
    one = CloudEvent(0, id, source, row.type, row.subject, time, data)
    placed = place(one, catalog, to_micros(row.received_at), row.key_id)
    return [each.event._replace(admitted=to_micros(now)) for each in placed]


def _identity(one: CloudEvent) -> UUID:
    return UUID(identity_digest(one.subject, one.source, one.id))


def _said(one: CloudEvent) -> str:
    """The digest of what an event says."""
    return text_digest(f"{one.type} {one.time} {exact_json.write(one.data, sort_keys=True).decode()}")
