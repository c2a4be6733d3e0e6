"""The inbox: usage that happened while Redis was away, or that commits together with something else in PostgreSQL.

A row holds one event with its identity. Feeding it goes through the same script as all usage, so feeding it twice, or
after it was counted already, changes nothing.
"""

import contextlib
from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from metering.errors import InvalidUsage, MeteringError, UnknownCustomer, UsageConflict
from metering.intake.admission import MAX_EVENTS_PER_SCRIPT, Intake
from metering.intake.event import UsageEvent
from metering.intake.refusals import StaleState
from metering.intake.values import Recording
from metering.models import Inbox
from metering.store.batch import set_aside
from metering.store.stream import Fault

NO_BACKLOG_LIMIT = 1 << 50
FEEDER_LOCK = 0x66656564


def put(session: Session, intake: Intake, events: Iterable[UsageEvent]) -> None:
    """Keep events until they are fed; they are as durable as the caller's transaction."""
    rows = [{"partition": intake.partition(event.customer), "message": event.message()} for event in events]
    if rows:
        session.execute(insert(Inbox), rows)


def feed(session: Session, intake: Intake, *, now: datetime, identity_window_seconds: float) -> int:
    """Send what waits through the intake, oldest first; how many rows are done. The caller commits.

    A row the intake refuses for good is set aside with its reason. Raises IntakeUnavailable while Redis is away.
    """
    # One feeder at a time, in order: a level's decrease must not overtake the increase before it.
    if not session.scalar(select(func.pg_try_advisory_xact_lock(FEEDER_LOCK))):
        return 0
    rows = session.scalars(select(Inbox).order_by(Inbox.id).limit(MAX_EVENTS_PER_SCRIPT).with_for_update()).all()
    by_partition: dict[int, list[Inbox]] = {}
    for row in rows:
        by_partition.setdefault(row.partition, []).append(row)
    done: list[int] = []
    for partition, waiting in by_partition.items():
        # A customer whose period is not known yet holds up its own partition only, until the job has made it.
        with contextlib.suppress(StaleState):
            _feed(session, intake, partition, waiting, now, identity_window_seconds)
            done += [row.id for row in waiting]
    session.execute(delete(Inbox).where(Inbox.id.in_(done)))
    return len(done)


def _feed(
    session: Session, intake: Intake, partition: int, rows: Sequence[Inbox], now: datetime, window: float
) -> None:
    """Halves on refusal, so that one event the intake will never take holds up none of the others."""
    try:
        events = [UsageEvent.from_message(row.message) for row in rows]
        intake.record(partition, events, Recording(now, window, NO_BACKLOG_LIMIT))
    except (InvalidUsage, UnknownCustomer, UsageConflict, ValueError) as error:
        if len(rows) == 1:
            set_aside(session, [_refused(rows[0], error)])
            return
        middle = len(rows) // 2
        _feed(session, intake, partition, rows[:middle], now, window)
        _feed(session, intake, partition, rows[middle:], now, window)


def _refused(row: Inbox, error: Exception) -> Fault:
    reason = error.code if isinstance(error, MeteringError) else "unreadable"
    return Fault(row.partition, 0, 0, b"", row.message, reason, str(error))
