"""Stripe's events, each stored once before it is answered, and what became of it.

Always holds: an event is waiting, or it is settled for good: `processed`, `ignored` with the reason, or `failed` after
many tries, until an operator lets it be tried again. A worker claims a waiting one by moving its next try, so that one
that is killed leaves it to be taken up later.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import random

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from metering.billing.free import as_parameters
from metering.catalog import Catalog
from metering.errors import Conflict, NotFound
from metering.models import AuditEntry, StripeEvent
from metering.stripe_sync.sql import statement
from metering.stripe_sync.webhooks import Incoming

LEASE = timedelta(minutes=6)
"""How long a claimed event is left alone: longer than a job may last."""

FIRST_DELAY_SECONDS = 10.0
MAX_DELAY_SECONDS = 3600.0
MAX_ATTEMPTS = 24
"""With delays of up to an hour: the better part of a day."""

KEPT = timedelta(days=90)
"""Stripe delivers an event again for up to three days; ours are kept for looking back."""


def keep(session: Session, event: Incoming, mode: str, *, ignored: str | None, now: datetime) -> int | None:
    """Store an event; its row's id, or None where it is stored already. `ignored`: why it won't be acted on."""
    row = {
        "event_id": event.id,
        "mode": mode,
        "livemode": event.livemode,
        "type": event.type,
        "thin": event.thin,
        "object_id": event.object_id,
        "happened_at": event.happened_at,
        "received_at": now,
        "state": "waiting" if ignored is None else "ignored",
        "next_try_at": now,
        "settled_at": None if ignored is None else now,
        "reason": ignored,
    }
    return session.scalar(insert(StripeEvent).values(row).on_conflict_do_nothing().returning(StripeEvent.id))


def due(session: Session, mode: str, now: datetime, limit: int) -> Sequence[int]:
    """The ids of events whose turn it is, in the order in which they came."""
    query = (
        select(StripeEvent.id)
        .where(StripeEvent.state == "waiting", StripeEvent.mode == mode, StripeEvent.next_try_at <= now)
        .order_by(StripeEvent.next_try_at, StripeEvent.id)
        .limit(limit)
    )
    return session.scalars(query).all()


def claim(session: Session, row_id: int, now: datetime) -> StripeEvent | None:
    """An event to process, for this worker alone; None where another has it, or it is not its turn."""
    query = (
        select(StripeEvent)
        .where(StripeEvent.id == row_id, StripeEvent.state == "waiting", StripeEvent.next_try_at <= now)
        .with_for_update(skip_locked=True)
    )
    event = session.scalars(query).one_or_none()
    if event is not None:
        event.attempts += 1
        event.next_try_at = now + LEASE
    return event


@dataclass(frozen=True, slots=True)
class Said:
    """What is noted of an event that is settled: a reason is needed where it was `ignored`."""

    reason: str | None = None
    ignored: bool = False


def settle(session: Session, row_id: int, now: datetime, said: Said) -> None:
    """Write down that an event was acted on, or why it needs no action."""
    event = session.get_one(StripeEvent, row_id, with_for_update=True)
    event.state = "ignored" if said.ignored else "processed"
    event.settled_at, event.reason = now, said.reason


def fail(session: Session, row_id: int, reason: str, now: datetime) -> bool:
    """Write down what went wrong and when to try again; whether it was given up."""
    event = session.get_one(StripeEvent, row_id, with_for_update=True)
    event.reason = reason
    if event.attempts >= MAX_ATTEMPTS:
        event.state, event.settled_at = "failed", now
        return True
    longest = min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** (event.attempts - 1))
    event.next_try_at = now + timedelta(seconds=longest * (0.5 + 0.5 * random()))  # noqa: S311 - spreads retries
    return False


def retry(session: Session, event_id: str, *, now: datetime, actor: str) -> int:
    """Let an event be processed again now, whatever became of it: that does no harm. Its row's id.

    Raises:
        NotFound: there is no such event.
        Conflict: it is of another mode.
    """
    event = find(session, event_id)
    if event.livemode != (event.mode == "live"):
        raise Conflict("the event is of another mode than this installation", event=event_id)
    detail = {"event": event_id, "type": event.type, "state": event.state, "reason": event.reason or ""}
    session.add(AuditEntry(at=now, actor=actor, action="stripe.event.retry", detail=detail))
    event.state, event.next_try_at, event.attempts, event.settled_at = "waiting", now, 0, None
    return event.id


def find(session: Session, event_id: str) -> StripeEvent:
    """An event, held by this transaction alone. Raises NotFound."""
    query = select(StripeEvent).where(StripeEvent.event_id == event_id).with_for_update()
    event = session.scalars(query.execution_options(populate_existing=True)).one_or_none()
    if event is None:
        raise NotFound(f"there is no event {event_id!r}", event=event_id)
    return event


def list_events(
    session: Session, *, states: Sequence[str], limit: int, before: int | None = None
) -> Sequence[StripeEvent]:
    """The newest first; those behind the id `before`."""
    query = select(StripeEvent).where(StripeEvent.state.in_(states)).order_by(StripeEvent.id.desc()).limit(limit)
    if before is not None:
        query = query.where(StripeEvent.id < before)
    return session.scalars(query).all()


def forget_settled(session: Session, now: datetime) -> int:
    """Drop events that were processed or ignored long ago."""
    old = select(StripeEvent).where(
        StripeEvent.state.in_(("processed", "ignored")), StripeEvent.received_at < now - KEPT
    )
    rows = session.scalars(old.limit(1000)).all()
    for row in rows:
        session.delete(row)
    return len(rows)


def counts(session: Session, catalog: Catalog) -> dict[str, int]:
    """How many events wait, of those how many were tried in vain, and how many were given up; and how many customers
    that Stripe knows have usage that may cost something and no subscription, so that nothing of it is reported.
    """
    tried = StripeEvent.attempts > 0
    row = session.execute(
        select(
            func.count().filter(StripeEvent.state == "waiting"),
            func.count().filter(StripeEvent.state == "waiting", tried, StripeEvent.reason.is_not(None)),
            func.count().filter(StripeEvent.state == "failed"),
        ).where(StripeEvent.state.in_(("waiting", "failed")))
    ).one()
    return {
        "events_waiting": row[0],
        "events_retried": row[1],
        "events_failed": row[2],
        "customers_without_subscription": len(unsold(session, catalog)),
    }


def unsold(session: Session, catalog: Catalog, customer: str | None = None) -> Sequence[str]:
    """The keys of customers that Stripe knows and that use without a subscription, so that nothing is reported.

    Those whose periods cost nothing are left out: having none is right for them. `customer`: of this one alone.
    """
    values = {"customer": customer, **as_parameters(catalog)}
    return session.scalars(statement("unsold_customers"), values).all()
