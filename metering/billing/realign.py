"""Moves a customer's billing periods to where its Stripe subscription has them.

Always holds: periods that are closed stay as they are, and so does what counts in them; the others neither overlap nor
leave a gap, before and after; every event that is not late lies in the period it counts in. So a subscription that
begins in the middle of a month cuts that month: what was used before counts in the first part, the rest in the
subscription's first period.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.billing.periods import cycle_of, ensure_periods, lock_customers, new_period, write_stretch
from metering.billing.rhythm import Stretch
from metering.models import Customer, Period
from metering.store.drain import lock_partition
from metering.store.rehome import rehome
from metering.store.state import touch

FAR = timedelta(days=200_000)
"""Rows step aside this far while they change places: no two may overlap at any moment."""


def hold_periods(session: Session, customer: Customer, now: datetime) -> None:
    """Have this customer's periods and what is stored in them to oneself until the transaction ends; all are there."""
    lock_partition(session, customer.partition)
    lock_customers(session, [customer.id])
    session.refresh(customer)
    if ensure_periods(session, [customer], now):
        touch(session, [customer.id])


def lay(session: Session, customer: Customer, stretches: Sequence[Stretch], now: datetime) -> bool:
    """Make the customer's periods these, from the first one's start on; whether anything was to be changed.

    `stretches` leave no gap and reach past the period that holds `now`. The caller has called `hold_periods`, and
    commits.
    """
    rows = _rows_since(session, customer, stretches[0].starts_at)
    closed = [row.ends_at for row in rows if row.closed_at is not None]
    wanted = _beginning_at(stretches, max(closed, default=stretches[0].starts_at))
    rows = [row for row in rows if row.closed_at is None]
    if not wanted:
        return False
    cut = next((row for row in rows if row.starts_at < wanted[0].starts_at), None)
    later = [row for row in rows if row is not cut]
    # What was planned further ahead stays, where it follows.
    kept = [row for row in later if row.starts_at >= wanted[-1].ends_at] if _follow(later, wanted) else []
    replaced = [row for row in later if row not in kept]
    moved = cut is not None or [(row.starts_at, row.ends_at) for row in replaced] != [
        (one.starts_at, one.ends_at) for one in wanted
    ]
    changed = moved or [(row.plan, cycle_of(row)) for row in replaced] != [(one.plan, one.cycle) for one in wanted]
    if not changed:
        return False
    if cut is not None:
        cut.ends_at = wanted[0].starts_at
        session.flush()
    surplus = _rewrite(session, customer, replaced, wanted)
    if moved:
        rehome(session, customer, wanted[0].starts_at)
    for row in surplus:
        session.delete(row)
    # Stripe's clock may be a little ahead of ours: what it says has begun has.
    begun = max(now, wanted[0].starts_at)
    customer.plan = next((one.plan for one in wanted if one.starts_at <= begun < one.ends_at), customer.plan)
    session.flush()
    touch(session, [customer.id])
    return True


def _rows_since(session: Session, customer: Customer, since: datetime) -> list[Period]:
    query = select(Period).where(Period.customer_id == customer.id, Period.ends_at > since).order_by(Period.starts_at)
    return list(session.scalars(query.execution_options(populate_existing=True)))


def _beginning_at(stretches: Sequence[Stretch], start: datetime) -> list[Stretch]:
    left = [one for one in stretches if one.ends_at > start]
    return [replace(left[0], starts_at=max(start, left[0].starts_at)), *left[1:]] if left else []


def _follow(rows: Sequence[Period], wanted: Sequence[Stretch]) -> bool:
    return any(row.starts_at == wanted[-1].ends_at for row in rows)


def _rewrite(session: Session, customer: Customer, rows: list[Period], wanted: Sequence[Stretch]) -> list[Period]:
    """Let the rows say what is wanted, each what it said already where it can; those left over, out of the way."""
    by_start = {row.starts_at: row for row in rows}
    same = [by_start.get(one.starts_at) for one in wanted]
    others = [row for row in rows if row not in same]
    for row in rows:
        row.starts_at, row.ends_at = row.starts_at + FAR, row.ends_at + FAR
    session.flush()
    for one, found in zip(wanted, same, strict=True):
        chosen = found or (others.pop(0) if others else None)
        if chosen is None:
            session.add(new_period(customer.id, one))
        else:
            write_stretch(chosen, one)
    session.flush()
    return others
