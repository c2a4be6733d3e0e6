"""Sends what the ledger owes: one row at a time, each under its own identifier, in order per customer and meter.

Always holds: a row is claimed, and the claim committed, before Stripe is called, so no two senders have it at once and
a killed one leaves it to be sent again under the same identifier; what may have been counted is never sent again once
Stripe may have forgotten the identifier; a row that is refused holds up nobody else.
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import random
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from metering.clock import Clock
from metering.failpoints import visit
from metering.stripe_sync.gateway import Fate, Outcome, StripeGateway
from metering.stripe_sync.ledger import DOUBTFUL_AFTER, MAX_AGE
from metering.stripe_sync.sql import statement

SessionFactory = Callable[[], Session]
Jitter = Callable[[], float]
"""Random numbers in [0, 1)."""

LEASE = timedelta(seconds=150)
"""How long a claimed row is left alone: longer than any call lasts, with the retries that it makes by itself."""

FIRST_DELAY_SECONDS = 5.0
MAX_DELAY_SECONDS = 600.0
MAX_TROUBLE = 3
"""So many failures in a row mean that Stripe is away or wants less: the other rows are left untried until later."""

HEADS = 100

UNKNOWN_TOO_LONG = "unknown after 23 hours: it may have been counted, and sent again it could count twice"
TOO_OLD = "older than 35 days: Stripe takes no usage of that time any more"


@dataclass(frozen=True, slots=True)
class SendReport:
    """What one run did, in rows. `postponed` wait for another try; `stopped` says why the run ended early, if it did.

    `needs_operator`: nothing will be accepted until somebody acts (the key, its permissions).
    """

    accepted: int = 0
    postponed: int = 0
    parked: int = 0
    stopped: str | None = None
    needs_operator: bool = False


@dataclass(frozen=True, slots=True)
class _Claim:
    """A row that this process alone is sending. `attempt` tells its own claim from a later one."""

    id: int
    attempt: int
    first_in_doubt: bool
    event_name: str
    payload: dict[str, str]
    identifier: str
    timestamp: int


def send_due(
    session_factory: SessionFactory, gateway: StripeGateway, *, clock: Clock, limit: int, jitter: Jitter = random
) -> SendReport:
    """Send up to `limit` due rows of the gateway's account, until none is due or sending makes no sense.

    Commits by itself, in short transactions; any number of senders may run at once. Never raises what Stripe answers.
    """
    report, trouble, handled = SendReport(), 0, 0
    while handled < limit and (heads := _heads(session_factory, gateway.account, clock(), limit - handled)):
        for row_id in heads:
            handled += 1
            claim = _claim(session_factory, row_id, clock())
            if claim is None:
                continue  # another sender has it
            if isinstance(claim, str):
                report = replace(report, parked=report.parked + 1)
                continue
            outcome = _send(gateway, claim)
            _record(session_factory, claim, outcome, clock(), jitter)
            report = _counted(report, outcome)
            trouble = trouble + 1 if outcome.fate in (Fate.UNKNOWN, Fate.RATE_LIMITED) else 0
            if report.stopped or trouble >= MAX_TROUBLE:
                return replace(report, stopped=outcome.reason)
    return report


def delay_seconds(attempt: int, jitter: Jitter) -> float:
    """How long to wait after the `attempt`th failure: doubling, at most ten minutes, and anywhere in its upper half.

    Source: Stripe's page "Rate limits": exponential back-off with randomness, as a 429 carries no Retry-After.
    """
    longest: float = min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(attempt - 1, 20))
    return longest * (0.5 + 0.5 * jitter())


def _heads(session_factory: SessionFactory, account: str, now: datetime, limit: int) -> Sequence[int]:
    """Due rows that are the first to wait for their customer and meter; those that were tried before come first."""
    with session_factory() as session:
        found = session.scalars(
            statement("due_heads"), {"account": account, "now": now, "limit": min(limit, HEADS)}
        ).all()
        session.rollback()
    return found


def _claim(session_factory: SessionFactory, row_id: int, now: datetime) -> _Claim | str | None:
    """Take a row for one sending: the claim; or why it was parked instead; or None where somebody else has it."""
    with session_factory() as session, session.begin():
        row = session.execute(statement("lock_due"), {"id": row_id, "now": now}).one_or_none()
        if row is None:
            return None
        if (hopeless := _hopeless(row, now)) is not None:
            _settle(session, row.id, "parked", now, hopeless)
            return hopeless
        session.execute(
            text("""
                UPDATE stripe_reports
                SET attempts = attempts + 1, next_try_at = :leased_until, first_sent_at = coalesce(first_sent_at, :now)
                WHERE id = :id
            """),
            {"id": row.id, "now": now, "leased_until": now + LEASE},
        )
    return _Claim(
        id=row.id,
        attempt=row.attempts + 1,
        first_in_doubt=row.first_sent_at is None,
        event_name=row.event_name,
        payload={row.customer_payload_key: row.stripe_customer_id, row.value_payload_key: str(row.value)},
        identifier=row.identifier,
        timestamp=int(row.timestamp.timestamp()),
    )


def _hopeless(row: Any, now: datetime) -> str | None:
    """Why a row must not be sent (again), if so. Doubt comes first: too old or not, it may have been counted."""
    if row.first_sent_at is not None and now - row.first_sent_at >= DOUBTFUL_AFTER:
        return UNKNOWN_TOO_LONG
    return TOO_OLD if now - row.timestamp > MAX_AGE else None


def _send(gateway: StripeGateway, claim: _Claim) -> Outcome:
    """One call, under a fresh Idempotency-Key: Stripe would answer a used one with what it answered then, a 500 too."""
    visit("stripe.before_send")
    outcome = gateway.send_meter_event(
        claim.event_name,
        claim.payload,
        identifier=claim.identifier,
        timestamp=claim.timestamp,
        idempotency_key=str(uuid.uuid4()),
    )
    if outcome.fate is Fate.ACCEPTED:
        visit("stripe.accepted")
    return outcome


def _record(session_factory: SessionFactory, claim: _Claim, outcome: Outcome, now: datetime, jitter: Jitter) -> None:
    with session_factory() as session, session.begin():
        match outcome.fate:
            case Fate.ACCEPTED:
                # True whoever says it, and however late: even of a row that another sender has claimed meanwhile.
                _settle(session, claim.id, "accepted", now, None)
            case Fate.REFUSED:
                _settle(session, claim.id, "parked", now, outcome.reason, claim)
            case Fate.STOP:
                _postpone(session, claim, now, outcome.reason, refused=True)
            case Fate.UNKNOWN | Fate.RATE_LIMITED:
                # A 429 can follow a time-out within one call of the library, so it proves nothing either.
                later = now + timedelta(seconds=delay_seconds(claim.attempt, jitter))
                _postpone(session, claim, later, outcome.reason, refused=False)


def _settle(
    session: Session, row_id: int, state: str, now: datetime, fault: str | None, claim: _Claim | None = None
) -> None:
    """Write down where a row ended. A refusal counts only for the claim that met it, and clears the doubt it made."""
    session.execute(
        text("""
            UPDATE stripe_reports
            SET state = :state, settled_at = :now, fault = :fault,
                first_sent_at = CASE WHEN :clears THEN NULL ELSE first_sent_at END
            WHERE id = :id
                AND (state = 'pending' OR :state = 'accepted' AND state = 'parked')
                AND (CAST(:attempt AS integer) IS NULL OR attempts = :attempt)
        """),
        {
            "id": row_id,
            "state": state,
            "now": now,
            "fault": fault,
            "clears": claim is not None and claim.first_in_doubt,
            "attempt": claim.attempt if claim else None,
        },
    )


def _postpone(session: Session, claim: _Claim, until: datetime, fault: str, *, refused: bool) -> None:
    session.execute(
        text("""
            UPDATE stripe_reports
            SET next_try_at = :until, fault = :fault,
                first_sent_at = CASE WHEN :clears THEN NULL ELSE first_sent_at END
            WHERE id = :id AND state = 'pending' AND attempts = :attempt
        """),
        {
            "id": claim.id,
            "until": until,
            "fault": fault,
            "clears": refused and claim.first_in_doubt,
            "attempt": claim.attempt,
        },
    )


def _counted(report: SendReport, outcome: Outcome) -> SendReport:
    match outcome.fate:
        case Fate.ACCEPTED:
            return replace(report, accepted=report.accepted + 1)
        case Fate.REFUSED:
            return replace(report, parked=report.parked + 1)
        case Fate.STOP:
            return replace(report, postponed=report.postponed + 1, stopped=outcome.reason, needs_operator=True)
        case Fate.UNKNOWN | Fate.RATE_LIMITED:
            return replace(report, postponed=report.postponed + 1)
