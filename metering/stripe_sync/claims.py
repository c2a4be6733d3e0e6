"""Rows that wait for Stripe, as one sender holds them: claimed, and given back with what became of them.

Always holds: what a call did is written down only for the claim that made it, except that Stripe counted a row: that
is true whoever says it, and however late.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from metering.models import StripeReport
from metering.stripe_sync.ledger import DOUBTFUL_AFTER, MAX_AGE, keys_of, lock_hour_of, withdraw, write_reports
from metering.stripe_sync.sql import statement

SessionFactory = Callable[[], Session]

LEASE = timedelta(seconds=150)
"""How long a claimed row is left alone: longer than any call lasts, with the retries that it makes by itself."""

HEADS = 100

TOO_OLD = "older than 35 days: Stripe takes no usage of that time any more"


@dataclass(frozen=True, slots=True)
class Claim:
    """A row that this process alone deals with until `leased_until`. `attempt` tells its own claim from a later one."""

    id: int
    state: str
    attempt: int
    first_in_doubt: bool
    leased_until: datetime
    event_name: str
    payload: dict[str, str]
    identifier: str
    timestamp: int
    stripe_meter_id: str
    stripe_customer_id: str


def due_heads(sessions: SessionFactory, account: str, now: datetime, limit: int) -> Sequence[int]:
    """Due rows that are the first to wait for their customer and meter; those that were tried before come first."""
    with sessions() as session:
        found = session.scalars(
            statement("due_heads"), {"account": account, "now": now, "limit": min(limit, HEADS)}
        ).all()
        session.rollback()
    return found


def claim(sessions: SessionFactory, row_id: int, now: datetime, summary_delay: timedelta) -> Claim | str | None:
    """Take a row for one call: the claim; or the state it was given instead; or None where somebody else has it."""
    with sessions() as session, session.begin():
        row = session.execute(statement("lock_due"), {"id": row_id, "now": now}).one_or_none()
        if row is None:
            return None
        if (other := _without_a_call(row, now)) is not None:
            state, fault = other
            later = max(now, (row.last_sent_at or now) + summary_delay)
            session.execute(
                text("""
                    UPDATE stripe_reports
                    SET state = :state, fault = coalesce(:fault, fault), next_try_at = :later,
                        settled_at = CASE WHEN :state = 'doubtful' THEN NULL ELSE CAST(:now AS timestamptz) END
                    WHERE id = :id
                """),
                {"id": row.id, "state": state, "fault": fault, "later": later, "now": now},
            )
            return state
        session.execute(
            text("""
                UPDATE stripe_reports
                SET attempts = attempts + 1, next_try_at = :leased_until,
                    first_sent_at = CASE state WHEN 'pending' THEN coalesce(first_sent_at, :now) ELSE first_sent_at END,
                    last_sent_at = CASE state WHEN 'doubtful' THEN last_sent_at ELSE :now END,
                    cancel_sent_at =
                        CASE state WHEN 'cancelling' THEN coalesce(cancel_sent_at, :now) ELSE cancel_sent_at END
                WHERE id = :id
            """),
            {"id": row.id, "now": now, "leased_until": now + LEASE},
        )
    tried = row.cancel_sent_at if row.state == "cancelling" else row.first_sent_at
    return Claim(
        id=row.id,
        state=row.state,
        attempt=row.attempts + 1,
        first_in_doubt=tried is None,
        leased_until=now + LEASE,
        event_name=row.event_name,
        payload={row.customer_payload_key: row.stripe_customer_id, row.value_payload_key: str(row.value)},
        identifier=row.identifier,
        timestamp=int(row.timestamp.timestamp()),
        stripe_meter_id=row.stripe_meter_id,
        stripe_customer_id=row.stripe_customer_id,
    )


def _without_a_call(row: Any, now: datetime) -> tuple[str, str | None] | None:
    """The state and the reason of a row that must not be sent (again), or cannot be taken back any more.

    Doubt comes first: too old or not, it may have been counted.
    """
    forgotten = row.first_sent_at is not None and now - row.first_sent_at >= DOUBTFUL_AFTER
    if row.state == "cancelling" and forgotten:
        # A cancel that was never tried leaves a row that is counted; the books are told below, by `finish_cancel`.
        return ("doubtful", None) if row.cancel_sent_at is not None else None
    if row.state == "pending" and forgotten:
        return "doubtful", None
    if row.state == "pending" and now - row.timestamp > MAX_AGE:
        return "parked", TOO_OLD
    return None


def accept(sessions: SessionFactory, claimed: Claim, now: datetime, note: str | None = None) -> None:
    """Stripe has counted it: even where another sender has claimed the row meanwhile, or it was parked."""
    _update(
        sessions,
        "state = 'accepted', settled_at = :now, last_sent_at = :now, fault = :fault",
        "state IN ('pending', 'doubtful', 'parked')",
        {"id": claimed.id, "now": now, "fault": note},
    )


def park(sessions: SessionFactory, claimed: Claim, now: datetime, reason: str) -> None:
    """A refusal counts only for the claim that met it, and clears the doubt it made."""
    clears = claimed.state == "pending" and claimed.first_in_doubt
    _update(
        sessions,
        "state = 'parked', settled_at = :now, fault = :fault"
        + (", first_sent_at = NULL, last_sent_at = NULL" if clears else ""),
        "state = :state AND attempts = :attempt",
        {"id": claimed.id, "now": now, "fault": reason, "state": claimed.state, "attempt": claimed.attempt},
    )


def postpone(
    sessions: SessionFactory,
    claimed: Claim,
    now: datetime,
    until: datetime,
    reason: str,
    *,
    refused: bool = False,
) -> None:
    """`refused`: nothing was counted or taken back by this call, so it leaves no doubt."""
    clears = "" if claimed.state == "doubtful" else ", last_sent_at = :now"
    if refused and claimed.first_in_doubt:
        columns = {"pending": ("first_sent_at", "last_sent_at"), "cancelling": ("cancel_sent_at",)}
        clears = "".join(f", {column} = NULL" for column in columns.get(claimed.state, ()))
    _update(
        sessions,
        "next_try_at = :until, fault = :fault" + clears,
        "state = :state AND attempts = :attempt",
        {
            "id": claimed.id,
            "now": now,
            "until": until,
            "fault": reason,
            "state": claimed.state,
            "attempt": claimed.attempt,
        },
    )


def finish_cancel(sessions: SessionFactory, claimed: Claim, now: datetime, *, cancelled: bool, why: str) -> None:
    """Stripe took the row back, or will not: what its hour owes now is written in the same transaction."""
    with sessions() as session, session.begin():
        report = _still(session, claimed, "cancelling", "doubtful")
        if report is None:
            return
        if cancelled:
            report.cancel_sent_at = report.cancel_sent_at or now
            report.last_sent_at = now
            withdraw(session, report, now, why)
        else:
            # The mark of a cancel stays, so that this row is not chosen again.
            report.state, report.settled_at, report.fault = "accepted", now, why
            report.cancel_sent_at = report.cancel_sent_at or now
            session.flush()
            write_reports(session, keys_of(report), now)


def resolve(sessions: SessionFactory, claimed: Claim, now: datetime, *, counted: bool, why: str) -> None:
    """What Stripe's summary said of a doubtful row."""
    with sessions() as session, session.begin():
        report = _still(session, claimed, "doubtful")
        if report is None:
            return
        if counted:
            report.state, report.settled_at, report.fault = "accepted", now, why
            session.flush()
            write_reports(session, keys_of(report), now)  # a cancel that did not happen is owed by another row
        else:
            withdraw(session, report, now, why)


def doubt(sessions: SessionFactory, claimed: Claim, until: datetime, reason: str) -> None:
    """Only Stripe's summary can tell what became of this row: look at it then."""
    _update(
        sessions,
        "state = 'doubtful', next_try_at = :until, fault = :fault",
        "state = :state AND attempts = :attempt",
        {"id": claimed.id, "until": until, "fault": reason, "state": claimed.state, "attempt": claimed.attempt},
    )


def _still(session: Session, claimed: Claim, *states: str) -> StripeReport | None:
    report = lock_hour_of(session, claimed.id)
    if report is None or report.state not in states or report.attempts != claimed.attempt:
        return None
    return report


def _update(sessions: SessionFactory, assignments: str, condition: str, values: dict[str, Any]) -> None:
    with sessions() as session, session.begin():
        session.execute(text(f"UPDATE stripe_reports SET {assignments} WHERE id = :id AND {condition}"), values)  # noqa: S608 - of our own words
