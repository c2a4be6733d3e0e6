"""Billing periods: stored rows, half-open, without gaps. Without a Stripe subscription they are calendar months in the
customer's time zone; with one they go on in its rhythm until it says otherwise (`billing/realign.py`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, get_args

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from metering.billing.rhythm import Cycle, Stretch, month_around, stretches_until
from metering.errors import IntakeUnavailable, MeteringError
from metering.models import Customer, Inbox, PartitionRow, Period
from metering.store.backlog import backlogs
from metering.store.drain import lock_partitions
from metering.store.state import touch

PlanStart = Literal["now", "period_end"]
PLAN_STARTS: tuple[PlanStart, ...] = get_args(PlanStart)

INBOX_MARGIN = timedelta(minutes=1)
"""Usage was admitted a little before its row in the inbox was written."""


class PeriodUnknown(MeteringError):
    """A customer has no billing period for this moment: the job that makes them has not run for long."""

    code = "period-unknown"


def ensure_periods(session: Session, customers: Iterable[Customer], now: datetime) -> list[int]:
    """Make the current and the next period of these customers where missing; the ids of customers that got one.

    A new period has the plan and the rhythm of the one before it, so a plan that was set for the next period stays from
    there on; the customer's own `plan` follows as that period begins, which is when the one after it is made.
    """
    customers = list(customers)
    ids = sorted(customer.id for customer in customers)
    lock_customers(session, ids)
    last = _last_periods(session, ids)
    grown = []
    for customer in customers:
        previous = last.get(customer.id)
        start = previous.ends_at if previous else month_around(now, customer.timezone)[0]
        if previous and previous.starts_at > now:
            continue  # the next one exists already
        plan = previous.plan if previous else customer.plan
        cycle = cycle_of(previous) if previous else None
        stretches = stretches_until(start, plan, cycle, customer.timezone, now)
        session.add_all(new_period(customer.id, stretch) for stretch in stretches)
        customer.plan = plan
        grown.append(customer.id)
    session.flush()
    return grown


def cycle_of(period: Period) -> Cycle | None:
    """The rhythm in which periods follow this one; None for calendar months."""
    return Cycle(period.anchor, period.cycle) if period.anchor and period.cycle else None


def new_period(customer_id: int, stretch: Stretch) -> Period:
    """The row of a stretch."""
    period = Period(customer_id=customer_id)
    write_stretch(period, stretch)
    return period


def write_stretch(period: Period, stretch: Stretch) -> None:
    """Make a row say what the stretch says."""
    period.starts_at, period.ends_at, period.plan = stretch.starts_at, stretch.ends_at, stretch.plan
    period.anchor = stretch.cycle.anchor if stretch.cycle else None
    period.cycle = stretch.cycle.text if stretch.cycle else None


def lock_customers(session: Session, customer_ids: Sequence[int]) -> None:
    """Have these customers' periods and plans to oneself until the transaction ends.

    Else a change of plan could slip in between reading a customer's last period and making the one after it, which
    would then be billed by the plan of before. Facts that refer to a customer are not held up.
    """
    session.execute(
        select(Customer.id).where(Customer.id.in_(customer_ids)).order_by(Customer.id).with_for_update(key_share=True)
    )


def set_plan(session: Session, customer: Customer, plan: str, *, when: PlanStart, now: datetime) -> None:
    """Bill a customer by `plan`: `now` from the start of the running period, `period_end` from that of the next one.

    Either way it takes the place of a plan that was to begin with the next period.
    """
    ensure_periods(session, [customer], now)
    since = Period.ends_at > now if when == "now" else Period.starts_at > now
    for period in session.scalars(select(Period).where(Period.customer_id == customer.id, since)):
        period.plan = plan
    if when == "now":
        customer.plan = plan
    session.flush()


@dataclass(frozen=True, slots=True)
class Terms:
    """The plan that bills a customer now, and the one that begins with the next period where that is another."""

    plan: str
    next_plan: str | None = None
    next_plan_at: datetime | None = None


def terms_of(session: Session, customers: Sequence[Customer], now: datetime) -> dict[int, Terms]:
    """By customer id. Read from the periods, so it is right in the very moment in which one begins."""
    query = (
        select(Period)
        .where(Period.customer_id.in_([customer.id for customer in customers]), Period.ends_at > now)
        .order_by(Period.customer_id, Period.starts_at)
    )
    running: dict[int, list[Period]] = {}
    for period in session.scalars(query):
        running.setdefault(period.customer_id, []).append(period)
    return {customer.id: _terms(customer, running.get(customer.id, []), now) for customer in customers}


def _terms(customer: Customer, running: Sequence[Period], now: datetime) -> Terms:
    plan = running[0].plan if running and running[0].starts_at <= now else customer.plan
    pending = next((period for period in running if period.starts_at > now and period.plan != plan), None)
    return Terms(plan, pending.plan, pending.starts_at) if pending else Terms(plan)


def customers_without_next(session: Session, now: datetime, limit: int = 500) -> Sequence[Customer]:
    """Customers whose last stored period has begun, so that the intake would soon know no next one."""
    starts = func.max(Period.starts_at)
    query = (
        select(Customer)
        .outerjoin(Period, Period.customer_id == Customer.id)
        .group_by(Customer.id)
        .having((starts <= now) | starts.is_(None))
        .order_by(Customer.id)
        .limit(limit)
    )
    return session.scalars(query).all()


def close_periods(session: Session, redis: Redis, *, now: datetime, grace_seconds: float) -> int:
    """Close the periods that ended more than `grace_seconds` ago, for good; of how many customers.

    From then on late events count in the current period. Stripe takes usage of an old period until its invoice is
    finalised, by default one hour after the end: https://docs.stripe.com/billing/subscriptions/usage-based.
    A period stays open as long as usage that was admitted before its end still waits to be stored.

    Raises:
        IntakeUnavailable: Redis is away, so nobody knows what waits.
    """
    ended = Period.closed_at.is_(None) & (Period.ends_at <= now - timedelta(seconds=grace_seconds))
    if session.scalar(select(Period.id).where(ended).limit(1)) is None:
        return 0
    # A drain decides by `closed_at` where an event counts: none may be at work on that decision.
    lock_partitions(session, wait=True)
    closed: set[int] = set()
    for partition, complete_until in _complete_until(session, redis, now).items():
        theirs = select(Customer.id).where(Customer.partition == partition)
        closed.update(
            session.scalars(
                update(Period)
                .where(ended, Period.ends_at <= complete_until, Period.customer_id.in_(theirs))
                .values(closed_at=now)
                .returning(Period.customer_id)
            )
        )
    touch(session, sorted(closed))
    return len(closed)


def _complete_until(session: Session, redis: Redis, now: datetime) -> dict[int, datetime]:
    """By partition, the moment until which all admitted usage is stored. Partitions to be rebuilt are left out."""
    rows = session.scalars(select(PartitionRow)).all()
    try:
        found = backlogs(redis, rows)
    except RedisError as error:
        raise IntakeUnavailable("Redis did not answer") from error
    waits = select(Inbox.partition, func.min(Inbox.created_at)).group_by(Inbox.partition)
    kept = {row[0]: row[1] - INBOX_MARGIN for row in session.execute(waits)}
    return {one.partition: min(one.oldest or now, kept.get(one.partition, now)) for one in found if not one.lost}


def current_period(session: Session, customer_id: int, now: datetime) -> Period:
    """The stored period that holds `now`. Raises PeriodUnknown where none is stored yet."""
    period = session.scalars(
        select(Period).where(Period.customer_id == customer_id, Period.starts_at <= now, Period.ends_at > now)
    ).one_or_none()
    if period is None:
        raise PeriodUnknown("the billing period that holds this moment is not stored yet", at=now)
    return period


def _last_periods(session: Session, customer_ids: Sequence[int]) -> dict[int, Period]:
    """By customer, as it is stored now."""
    query = (
        select(Period)
        .ext(distinct_on(Period.customer_id))
        .where(Period.customer_id.in_(customer_ids))
        .order_by(Period.customer_id, Period.starts_at.desc())
        .execution_options(populate_existing=True)
    )
    return {period.customer_id: period for period in session.scalars(query)}
