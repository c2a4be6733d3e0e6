"""Sends what the ledger owes: each row under its own identifier, in order per customer and meter, several at once.

Always holds: a row is claimed, and the claim committed, before Stripe is called, so no two senders have it at once and
a killed one leaves it to be sent again under the same identifier; what may have been counted is never sent again once
Stripe may have forgotten the identifier, but looked up; a row that is refused holds up nobody else.
"""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import random
from threading import Lock
from typing import assert_never

from redis.exceptions import RedisError

from metering.clock import Clock
from metering.failpoints import visit
from metering.models import StripeReport
from metering.stripe_sync import claims
from metering.stripe_sync.adjustments import cancel_event
from metering.stripe_sync.claims import Claim, SessionFactory
from metering.stripe_sync.doubt import Verdict, judge, read_window, seen
from metering.stripe_sync.gateway import Fate, Outcome, StripeFailed, StripeGateway
from metering.stripe_sync.ledger import DOUBTFUL_AFTER
from metering.stripe_sync.throttle import Jitter, Kind, Throttle, Unthrottled, delay_seconds

MAX_TROUBLE = 3
"""So many failures in a row mean that Stripe is away: the other rows are left untried until later."""

ENOUGH = "Stripe's rate limit: the rest waits for the next run"


@dataclass(frozen=True, slots=True)
class SendReport:
    """What one run did, in rows. `postponed` wait for another try; `stopped` says why the run ended early, if it did.

    `cancelled` were taken back at Stripe, `looked_up` are settled by Stripe's summary. `needs_operator`: nothing will
    be accepted until somebody acts (the key, its permissions).
    """

    accepted: int = 0
    cancelled: int = 0
    looked_up: int = 0
    postponed: int = 0
    parked: int = 0
    stopped: str | None = None
    needs_operator: bool = False


def send_due(
    sessions: SessionFactory,
    gateway: StripeGateway,
    *,
    clock: Clock,
    limit: int,
    jitter: Jitter = random,
    throttle: Throttle | None = None,
    parallel: int = 1,
    summary_delay_seconds: float = 0.0,
    enough: Callable[[], bool] = lambda: False,
) -> SendReport:
    """Deal with up to `limit` due rows of the gateway's account, `parallel` at once, until none is due, sending makes
    no sense, or `enough` says so.

    Commits by itself, in short transactions; any number of senders may run at once. Never raises what Stripe answers.
    """
    run = _Run(sessions, gateway, clock, jitter, throttle or Unthrottled(), timedelta(seconds=summary_delay_seconds))
    handled = 0
    with ThreadPoolExecutor(parallel, "stripe") as pool:
        while handled < limit and not run.report.stopped and not enough():
            heads = claims.due_heads(sessions, gateway.account, clock(), limit - handled)
            if not heads:
                break
            handled += len(heads)
            list(pool.map(run.handle, heads) if parallel > 1 else map(run.handle, heads))
    return run.report


@dataclass
class _Run:
    """What the threads of one run share."""

    sessions: SessionFactory
    gateway: StripeGateway
    clock: Clock
    jitter: Jitter
    throttle: Throttle
    summary_delay: timedelta
    report: SendReport = SendReport()
    trouble: int = 0
    lock: Lock = field(default_factory=Lock)

    def handle(self, row_id: int) -> None:
        """One row, from claim to outcome; nothing once the run has stopped."""
        if self.report.stopped:
            return
        # Before the claim, so that waiting for a turn takes nothing from the lease.
        if not self._may_call("events"):
            return
        claim = claims.claim(self.sessions, row_id, self.clock(), self.summary_delay)
        if isinstance(claim, Claim):
            self._deal_with(claim)
        elif claim == "parked":
            self._count(parked=1)

    def _may_call(self, kind: Kind) -> bool:
        try:
            allowed = self.throttle.take(kind)
        except RedisError as error:
            self._count(stopped=f"the rate limit's Redis does not answer: {error}")
            return False
        if not allowed:
            self._count(stopped=ENOUGH)
        return allowed

    def _deal_with(self, claim: Claim) -> None:
        if claim.state == "pending":
            self._send(claim)
        elif not self._may_call("calls"):
            self._put_back(claim, self.clock(), ENOUGH, refused=True)
        elif claim.state == "cancelling":
            self._cancel(claim)
        else:
            self._look_up(claim)

    def _send(self, claim: Claim) -> None:
        """One call, under a fresh Idempotency-Key: Stripe would answer a used one with what it answered then, a 500
        too.
        """
        visit("stripe.before_send")
        if self.clock() >= claim.leased_until:
            return  # this process slept, and the row may be somebody else's by now
        outcome = self.gateway.send_meter_event(
            claim.event_name,
            claim.payload,
            identifier=claim.identifier,
            timestamp=claim.timestamp,
            idempotency_key=str(uuid.uuid4()),
        )
        match outcome.fate:
            case Fate.ACCEPTED:
                visit("stripe.accepted")
                claims.accept(self.sessions, claim, self.clock())
                self._count(accepted=1)
            case Fate.REFUSED:
                claims.park(self.sessions, claim, self.clock(), outcome.reason)
                self._count(parked=1)
            case Fate.STOP | Fate.UNKNOWN | Fate.RATE_LIMITED:
                self._postpone(claim, outcome)
            case _:
                assert_never(outcome.fate)

    def _cancel(self, claim: Claim) -> None:
        report = self._row(claim)
        if report.first_sent_at is not None and self.clock() - report.first_sent_at >= DOUBTFUL_AFTER:
            why = "too late to take it back: corrected by a row of its own"
            claims.finish_cancel(self.sessions, claim, self.clock(), cancelled=False, why=why)
            return
        visit("stripe.before_cancel")
        if self.clock() >= claim.leased_until:
            return
        outcome = cancel_event(
            self.gateway.client, claim.event_name, claim.identifier, idempotency_key=str(uuid.uuid4())
        )
        match outcome.fate:
            case Fate.ACCEPTED:
                visit("stripe.cancelled")
                claims.finish_cancel(self.sessions, claim, self.clock(), cancelled=True, why="taken back at Stripe")
                self._count(cancelled=1)
            case Fate.REFUSED if claim.first_in_doubt:
                why = f"Stripe does not take it back ({outcome.reason}): corrected by a row of its own"
                claims.finish_cancel(self.sessions, claim, self.clock(), cancelled=False, why=why)
            case Fate.REFUSED:
                # An earlier attempt may have taken it back, and that may be why this one is refused.
                claims.doubt(self.sessions, claim, self.clock() + self.summary_delay, outcome.reason)
                self._count(postponed=1)
            case Fate.STOP | Fate.UNKNOWN | Fate.RATE_LIMITED:
                self._postpone(claim, outcome)
            case _:
                assert_never(outcome.fate)

    def _look_up(self, claim: Claim) -> None:
        """Decide on a row by Stripe's summary of its hour, once all that was sent for that hour must show there."""
        with self.sessions() as session:
            window = read_window(session, session.get_one(StripeReport, claim.id))
        if (settles_at := window.last_sent_at + self.summary_delay) > self.clock():
            self._put_back(claim, settles_at, "waits for Stripe's summary of its hour")
            self._count(postponed=1)
            return
        try:
            found = self.gateway.summary(
                claim.stripe_meter_id, claim.stripe_customer_id, window.starts_at, window.ends_at
            )
        except StripeFailed as error:
            if error.outcome.fate is Fate.REFUSED:
                claims.park(self.sessions, claim, self.clock(), f"in doubt, and no summary: {error.outcome.reason}")
                self._count(parked=1)
            else:
                self._postpone(claim, error.outcome)
            return
        verdict = judge(window, claim.id, found)
        if verdict is Verdict.UNCLEAR:
            claims.park(self.sessions, claim, self.clock(), seen(window, claim.id, found))
            self._count(parked=1)
            return
        counted = verdict is Verdict.COUNTED
        why = f"by Stripe's summary of {window.starts_at:%Y-%m-%d %H:00} UTC, {found:f}: "
        why += "it was counted" if counted else "it was not counted, another row takes its place"
        claims.resolve(self.sessions, claim, self.clock(), counted=counted, why=why)
        self._count(looked_up=1)

    def _row(self, claim: Claim) -> StripeReport:
        with self.sessions() as session:
            return session.get_one(StripeReport, claim.id)

    def _put_back(self, claim: Claim, until: datetime, reason: str, *, refused: bool = False) -> None:
        claims.postpone(self.sessions, claim, self.clock(), until, reason, refused=refused)

    def _postpone(self, claim: Claim, outcome: Outcome) -> None:
        delay = delay_seconds(claim.attempt, self.jitter)
        if outcome.fate is Fate.STOP:
            self._put_back(claim, self.clock(), outcome.reason, refused=True)
            self._count(postponed=1, stopped=outcome.reason, needs_operator=True)
            return
        # A 429 can follow a time-out within one call of the library, so it proves nothing either.
        self._put_back(claim, self.clock() + timedelta(seconds=delay), outcome.reason)
        self._count(postponed=1)
        if outcome.fate is Fate.RATE_LIMITED and not outcome.concerns_one_object:
            self._count(stopped=outcome.reason)
            with suppress(RedisError):
                self.throttle.back_off(self.jitter)
        elif outcome.fate is Fate.UNKNOWN:
            self._count(trouble=1, reason=outcome.reason)

    def _count(
        self,
        *,
        trouble: int = 0,
        reason: str = "",
        stopped: str | None = None,
        needs_operator: bool = False,
        **rows: int,
    ) -> None:
        with self.lock:
            if rows.keys() & {"accepted", "cancelled", "looked_up"}:
                self.trouble = 0
            self.trouble += trouble
            if self.trouble >= MAX_TROUBLE:
                stopped = stopped or reason
            self.report = replace(
                self.report,
                stopped=self.report.stopped or stopped,
                needs_operator=self.report.needs_operator or needs_operator,
                **{name: getattr(self.report, name) + number for name, number in rows.items()},
            )
