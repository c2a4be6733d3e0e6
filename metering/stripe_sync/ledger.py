"""What Stripe should know and what it was told: per account, customer, meter, period and UTC hour.

Always holds: `reported` is the sum of an hour's report rows, whatever became of them; both are written in one
transaction, under the lock of the ledger row. So an hour is never owed twice, and a row that was parked or written off
is not owed anew behind the operator's back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from metering.errors import Conflict, NotFound
from metering.models import AuditEntry, StripeReport
from metering.stripe_sync.sql import statement

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

MAX_VALUE = 10**15 - 1
"""Stripe takes at most 15 significant digits (`meter_event_value_too_many_digits`)."""

DOUBTFUL_AFTER = timedelta(hours=23)
"""An identifier is unique for at least 24 hours at Stripe: after that, what may have been counted could count again."""

MAX_AGE = timedelta(days=35)
"""Stripe refuses older timestamps (`timestamp_too_far_in_past`)."""


WRITERS_LOCK = 0x6F776573


@dataclass(frozen=True, slots=True)
class LedgerStatus:
    """Where the usage of an account stands. Hours are (customer, meter, period, hour)."""

    owed_hours: int
    pending: int
    parked: int
    written_off: int
    accepted_last_day: int
    oldest_waiting_seconds: float | None
    customers_without_stripe_id: int


def owe(session: Session, account: str, *, now: datetime, settle_seconds: float, limit: int = 1000) -> int:
    """Make report rows for closed hours that owe something; how many. 0: nothing is left that could be owed now.

    An hour is closed `settle_seconds` after its end. Looks at `limit` changed hours at a time, and at further ones
    only while those owe nothing. The caller commits. Customers without a Stripe customer id are passed over: their
    changes stay noted until they have one. Works at READ COMMITTED, the default, as does everything here.
    """
    session.execute(select(func.pg_advisory_xact_lock_shared(WRITERS_LOCK)))
    newest = now - timedelta(seconds=settle_seconds) - HOUR
    made, full = 0, True
    while full and not made:
        hours = _take_changes(session, account, newest, limit)
        full = len(hours) == limit
        if hours:
            made = write_reports(session, lock_hours(session, account, hours), now)
    return made


def hold_writers(session: Session) -> None:
    """Keep report rows from being made until the transaction ends: none is made under an id that is being changed."""
    session.execute(select(func.pg_advisory_xact_lock(WRITERS_LOCK)))


def retry(session: Session, report_id: int, *, now: datetime, actor: str) -> None:
    """Let a parked row be sent again, unchanged: after what Stripe refused it for was put right.

    Raises:
        NotFound: there is no such row.
        Conflict: it is not parked, or it may have been counted under an identifier that Stripe may have forgotten.
    """
    report = _lock_parked(session, report_id)
    if report.first_sent_at is not None and now - report.first_sent_at >= DOUBTFUL_AFTER:
        raise Conflict(
            "it may have been counted already, and sent again it could count twice: compare with Stripe's summary, "
            "then write it off or correct it there",
            report=report_id,
        )
    report.state, report.next_try_at, report.settled_at = "pending", now, None
    _audit(session, report, "stripe.retry", now, actor, note=report.fault or "")
    session.flush()


def write_off(session: Session, report_id: int, *, note: str, now: datetime, actor: str) -> None:
    """Decide that Stripe will not be told of a parked row by us.

    Its value stays in `reported`: were it taken out, the hour would owe it again and a new row would be made. Usage
    that comes later in the same hour is owed as ever.

    Raises:
        NotFound: there is no such row.
        Conflict: it is not parked, or there is no note.
    """
    if not note.strip():
        raise Conflict("writing off needs a note that says why", report=report_id)
    report = _lock_parked(session, report_id)
    report.state, report.settled_at = "written_off", now
    _audit(session, report, "stripe.write_off", now, actor, note=note.strip())
    session.flush()


def ledger_status(session: Session, account: str, now: datetime) -> LedgerStatus:
    """Counts for operators, at a cost that does not grow with what was reported long ago."""
    row = session.execute(
        statement("ledger_status"), {"account": account, "now": now, "newest": now - HOUR, "day_ago": now - DAY}
    ).one()
    oldest = row.oldest_waiting_at
    return LedgerStatus(
        owed_hours=row.owed_hours,
        pending=row.pending,
        parked=row.parked,
        written_off=row.written_off,
        accepted_last_day=row.accepted_last_day,
        oldest_waiting_seconds=None if oldest is None else (now - oldest).total_seconds(),
        customers_without_stripe_id=row.customers_without_stripe_id,
    )


def forget_old_changes(session: Session, *, now: datetime) -> int:
    """Drop the notes of hours that Stripe would refuse as too old, such as those of customers it never knew."""
    dropped = session.execute(
        text("DELETE FROM stripe_changes WHERE hour < :oldest RETURNING 1"), {"oldest": now - MAX_AGE - DAY}
    )
    return len(dropped.all())


def _take_changes(session: Session, account: str, newest: datetime, limit: int) -> Sequence[Any]:
    """Remove notes of changed hours that nobody else holds, and hold them until the transaction ends.

    The usage is read after this, in another statement: a change that commits in between has waited for this note, and
    leaves a new one.
    """
    return session.execute(statement("take_changes"), {"account": account, "newest": newest, "limit": limit}).all()


def lock_hours(session: Session, account: str, hours: Sequence[Any]) -> dict[str, Any]:
    """Hold the ledger rows of these hours, made where missing, until the transaction ends; the keys to write with.

    An hour is anything with `customer_id`, `meter_id`, `period_id` and `hour`.
    """
    keys = {
        "account": account,
        "customer_ids": [hour.customer_id for hour in hours],
        "meter_ids": [hour.meter_id for hour in hours],
        "period_ids": [hour.period_id for hour in hours],
        "hours": [hour.hour for hour in hours],
    }
    session.execute(statement("open_ledger"), keys)
    session.execute(statement("lock_ledger"), keys)
    return keys


def write_reports(session: Session, keys: dict[str, Any], now: datetime) -> int:
    """What the locked hours owe beyond what was reported, as rows; how many. A statement of its own, after the lock:
    whoever held these hours before has committed, and is seen.
    """
    made = session.execute(statement("write_reports"), {**keys, "most": MAX_VALUE, "now": now})
    return len(made.all())


def _lock_parked(session: Session, report_id: int) -> StripeReport:
    report = session.get(StripeReport, report_id, with_for_update=True, populate_existing=True)
    if report is None:
        raise NotFound(f"there is no report row {report_id}", report=report_id)
    if report.state != "parked":
        raise Conflict(f"the report row {report_id} is {report.state}, not parked", report=report_id)
    return report


def _audit(session: Session, report: StripeReport, action: str, now: datetime, actor: str, *, note: str) -> None:
    detail = {"report": report.id, "identifier": report.identifier, "value": str(report.value), "note": note}
    session.add(AuditEntry(at=now, actor=actor, action=action, customer_id=report.customer_id, detail=detail))
