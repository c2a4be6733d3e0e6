"""What RQ runs, and when. A job is a few lines around a function that does the work, and commits once.

All jobs may run twice, at once, or be killed half-way: what they do is decided by what is stored.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import structlog
from sqlalchemy import text

from metering import verification
from metering.accounts import credentials
from metering.accounts.in_force import put_in_force
from metering.billing import spending
from metering.billing.periods import close_periods, customers_without_next, ensure_periods
from metering.notify import deliveries, mail
from metering.notify.crossings import tell_of_alerts
from metering.queues import MAX_JOB_SECONDS, QUEUE
from metering.runtime import Runtime, build_runtime
from metering.settings import load_settings
from metering.store import accruals, schema
from metering.store.last_used import carry_last_used
from metering.store.state import touch
from metering.stripe_sync import processing, reconcile, reporting
from metering.stripe_sync.gateway import KeyRefused, StripeFailed
from metering.stripe_sync.history import forget_old

PERIODS_LOCK = 0x70657269
RECONCILE_SECONDS = 15.0
"""A comparison of many customers takes long at Stripe's rate, and goes on in the next round: other jobs wait."""

__all__ = ["MAX_JOB_SECONDS", "QUEUE", "SCHEDULE"]

log = structlog.get_logger("metering.jobs")


@lru_cache(maxsize=1)
def runtime() -> Runtime:
    """This process's own, built at its first job."""
    return build_runtime(load_settings())


def close_hours() -> int:
    """Write the accruals of the hours that are over, and of the last parts of those within which a period has ended,
    with the alerts about money that they set off.
    """
    current = runtime()
    current.refresh_meters()
    delay = current.settings.settle_delay_seconds
    closed = 0
    for close in (accruals.close_hours, accruals.settle_ended):
        moved = 1
        while moved:
            now = current.clock()
            with current.transaction() as session:
                done = close(session, current.catalog, now=now, settle_seconds=delay)
                crossed = spending.detect_in_periods(session, current.catalog, done.period_ids, now=now)
                tell_of_alerts(session, current.catalog, crossed, pages_url=current.settings.pages_url, now=now)
            moved = done.levels
            closed += moved
    return closed


def make_periods() -> int:
    """Make the next billing period of customers whose last one has begun."""
    current = runtime()
    now = current.clock()
    with current.transaction() as session:
        session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": PERIODS_LOCK})
        grown = ensure_periods(session, customers_without_next(session, now), now)
        touch(session, grown)
        return len(grown)


def end_periods() -> int:
    """Close billing periods that take no late events any more."""
    current = runtime()
    grace = current.settings.period_grace_seconds
    with current.transaction() as session:
        return close_periods(session, current.redis, now=current.clock(), grace_seconds=grace)


def make_event_months() -> int:
    """Make the partitions of `events` for the months to come."""
    current = runtime()
    with current.transaction() as session:
        return len(schema.create_event_months(session.connection(), current.clock()))


def carry_last_use() -> int:
    """Carry into PostgreSQL when API keys were last used."""
    current = runtime()
    with current.transaction() as session:
        return carry_last_used(session, current.redis, current.settings.partitions)


def report_to_stripe() -> int:
    """Work out what Stripe is owed and send what waits; how many rows Stripe accepted."""
    try:
        return reporting.report(runtime()).accepted
    except StripeFailed as error:
        log.warning("stripe_unavailable", detail=error.message)  # what is owed waits for the next round
        return 0


def process_stripe_event(row_id: int) -> int:
    """Follow one of Stripe's events; enqueued as soon as it is stored."""
    settled = processing.process(runtime(), row_id)
    put_in_force(runtime())
    return int(settled)


def process_stripe_events() -> int:
    """Follow the events that were not enqueued, or failed before; how many are settled now."""
    try:
        settled = processing.process_due(runtime())
    except StripeFailed as error:
        log.warning("stripe_unavailable", detail=error.message)  # they wait for the next round
        return 0
    if settled:
        put_in_force(runtime())
    return settled


def reconcile_with_stripe() -> int:
    """Compare with Stripe what is due to be compared, for a while; how many series were."""
    current = runtime()
    ends = time.monotonic() + RECONCILE_SECONDS
    with current.transaction() as session:
        forget_old(session, now=current.clock(), keep_days=current.settings.reconciliation_keep_days)
    try:
        return reconcile.reconcile_some(current, enough=lambda: time.monotonic() >= ends)
    except (StripeFailed, KeyRefused) as error:
        log.warning("stripe_unavailable", detail=error.message)  # it goes on there in the next round
        return 0


def compare_customer(run_id: int) -> None:
    """Make a comparison with Stripe that an operator asked for."""
    reconcile.go_on(runtime(), run_id)


def run_verification(run_id: int) -> bool:
    """Make the checks that an operator asked for; whether all of them hold."""
    return verification.carry_out(runtime(), run_id)


def send_mails() -> int:
    """Send the e-mails that are due; how many went out."""
    return mail.send_waiting(runtime())


def send_webhooks() -> int:
    """Deliver the webhooks that are due; how many were."""
    return deliveries.send_waiting(runtime())


def forget_webhooks() -> int:
    """Leave old deliveries out of the log."""
    current = runtime()
    with current.transaction() as session:
        return deliveries.forget_old(session, now=current.clock())


def send_reset_links() -> int:
    """Send the links that people who forgot their password asked for."""
    return credentials.send_reset_links(runtime())


@dataclass(frozen=True, slots=True)
class Recurring:
    """`job` runs every `seconds`."""

    job: Callable[[], int]
    seconds: int


SCHEDULE = (
    Recurring(close_hours, 60),
    Recurring(make_periods, 60),
    Recurring(end_periods, 60),
    Recurring(make_event_months, 3600),
    Recurring(carry_last_use, 15),
    Recurring(report_to_stripe, 30),
    Recurring(reconcile_with_stripe, 60),
    Recurring(process_stripe_events, 15),
    Recurring(send_reset_links, 5),
    Recurring(send_mails, 5),
    Recurring(send_webhooks, 5),
    Recurring(forget_webhooks, 3600),
)
