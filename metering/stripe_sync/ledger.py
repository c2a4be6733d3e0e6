"""What Stripe should know and what it was told: per account, customer, meter, period and UTC hour.

Always holds: `reported` is the sum of an hour's report rows but those that were withdrawn; both are written in one
transaction, under the lock of the ledger row. So an hour is never owed twice, and a row that was parked or written off
is not owed anew behind the operator's back. Who locks a ledger row and a report row locks them in this order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from metering.billing.free import as_parameters
from metering.catalog import Catalog
from metering.models import LedgerEntry, StripeReport
from metering.stripe_sync.sql import statement

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
    cancelling: int
    doubtful: int
    parked: int
    written_off: int
    accepted_last_day: int
    oldest_waiting_seconds: float | None
    customers_without_stripe_id: int
    hours_without_stripe_id: int


def owe(session: Session, account: str, *, now: datetime, settle_seconds: float, limit: int = 1000) -> int:
    """Make report rows for closed hours that owe something; how many. 0: nothing is left that could be owed now.

    An hour is closed `settle_seconds` after its end, or after that of its period if that ends within it: so all of a
    period is owed before Stripe, an hour after the period's end, makes its invoice final. Looks at `limit` changed
    hours at a time, and at further ones only while those owe nothing. The caller commits. Customers without a Stripe
    customer id are passed over: their changes stay noted until they have one. Works at READ COMMITTED, the default, as
    does everything here.
    """
    session.execute(select(func.pg_advisory_xact_lock_shared(WRITERS_LOCK)))
    closed_by = now - timedelta(seconds=settle_seconds)
    made, full = 0, True
    while full and not made:
        hours = _take_changes(session, account, closed_by, limit)
        full = len(hours) == limit
        if hours:
            made = write_reports(session, lock_hours(session, account, hours), now)
    return made


def hold_writers(session: Session) -> None:
    """Keep report rows from being made until the transaction ends: none is made under an id that is being changed."""
    session.execute(select(func.pg_advisory_xact_lock(WRITERS_LOCK)))


def ledger_status(session: Session, catalog: Catalog, account: str, now: datetime) -> LedgerStatus:
    """Counts for operators, at a cost that grows neither with what was reported long ago nor with what is noted of
    customers who pay nothing.
    """
    values = {"account": account, "now": now, "day_ago": now - DAY, **as_parameters(catalog)}
    row = session.execute(statement("ledger_status"), values).one()
    oldest = row.oldest_waiting_at
    return LedgerStatus(
        owed_hours=row.owed_hours,
        pending=row.pending,
        cancelling=row.cancelling,
        doubtful=row.doubtful,
        parked=row.parked,
        written_off=row.written_off,
        accepted_last_day=row.accepted_last_day,
        oldest_waiting_seconds=None if oldest is None else (now - oldest).total_seconds(),
        customers_without_stripe_id=row.customers_without_stripe_id,
        hours_without_stripe_id=row.hours_without_stripe_id,
    )


def forget_old_changes(session: Session, *, now: datetime) -> int:
    """Drop the notes of hours that Stripe would refuse as too old, such as those of customers it never knew."""
    dropped = session.execute(
        text("DELETE FROM stripe_changes WHERE hour < :oldest RETURNING 1"), {"oldest": now - MAX_AGE - DAY}
    )
    return len(dropped.all())


def _take_changes(session: Session, account: str, closed_by: datetime, limit: int) -> Sequence[Any]:
    """Remove notes of changed hours that nobody else holds, and hold them until the transaction ends.

    The usage is read after this, in another statement: a change that commits in between has waited for this note, and
    leaves a new one.
    """
    bounds = {"account": account, "closed_by": closed_by, "limit": limit}
    return session.execute(statement("take_changes"), bounds).all()


def lock_hours(session: Session, account: str, hours: Sequence[Any]) -> dict[str, Any]:
    """Hold the ledger rows of these hours, made where missing, until the transaction ends; the keys to write with.

    An hour is anything with `customer_id`, `meter_id`, `period_id` and `hour`.
    """
    keys = _keys(account, hours)
    session.execute(statement("open_ledger"), keys)
    session.execute(statement("lock_ledger"), keys)
    return keys


def write_reports(session: Session, keys: dict[str, Any], now: datetime) -> int:
    """What the locked hours owe beyond what was reported, as rows; how many wait now. Statements of their own, after
    the lock: whoever held these hours before has committed, and is seen.

    Where an hour owes less than was reported, what Stripe cannot have counted is withdrawn first. Of what it has, one
    row is cancelled while that is possible and the period runs: Stripe's page "Configure meters" (Fix incorrect usage
    data). All else becomes a signed row, which Stripe takes: it bills nothing below zero over a whole period only.
    """
    waiting = 0
    if fallen := _fallen(session, keys):
        session.execute(statement("withdraw_untold"), {**_keys(keys["account"], fallen), "now": now})
    if fallen and (fallen := _fallen(session, keys)):
        cancels = session.execute(
            statement("begin_cancels"),
            {
                **_keys(keys["account"], fallen),
                "excesses": [hour.excess for hour in fallen],
                "now": now,
                "received_after": now - DOUBTFUL_AFTER,
            },
        )
        waiting += len(cancels.all())
    made = session.execute(statement("write_reports"), {**keys, "most": MAX_VALUE, "now": now})
    return waiting + len(made.all())


def withdraw(session: Session, report: StripeReport, now: datetime, why: str) -> None:
    """A row of a locked hour is not counted at Stripe, or not any more: what the hour owes now is written anew."""
    report.state, report.settled_at, report.fault = "withdrawn", now, why
    session.flush()
    _raise_reported(session, report, -report.value)
    write_reports(session, keys_of(report), now)


def observe(session: Session, report: StripeReport, units: int, now: datetime, why: str) -> None:
    """Stripe's own summary shows `units` more (negative: fewer) than was told in the locked hour of this row, whose
    like the new row is: what the hour owes now is written anew.
    """
    key = (report.account, report.customer_id, report.meter_id, report.period_id, report.hour)
    entry = session.get_one(LedgerEntry, key, populate_existing=True)
    entry.revision += 1
    session.add(
        StripeReport(
            account=report.account,
            customer_id=report.customer_id,
            meter_id=report.meter_id,
            period_id=report.period_id,
            hour=report.hour,
            revision=entry.revision,
            part=0,
            event_name=report.event_name,
            stripe_customer_id=report.stripe_customer_id,
            value=units,
            timestamp=report.timestamp,
            identifier=f"observed-{report.id}-{entry.revision}",
            state="observed",
            next_try_at=now,
            settled_at=now,
            created_at=now,
            fault=why,
        )
    )
    session.flush()
    _raise_reported(session, report, units)
    write_reports(session, keys_of(report), now)


def lock_hour_of(session: Session, report_id: int) -> StripeReport | None:
    """A report row, with its hour's ledger row and itself held until the transaction ends; None where there is none."""
    found = session.get(StripeReport, report_id)
    if found is None:
        return None
    lock_hours(session, found.account, [found])
    return session.get(StripeReport, report_id, with_for_update=True, populate_existing=True)


def keys_of(report: StripeReport) -> dict[str, Any]:
    return _keys(report.account, [report])


def _raise_reported(session: Session, report: StripeReport, units: int) -> None:
    session.execute(
        update(LedgerEntry)
        .where(
            LedgerEntry.account == report.account,
            LedgerEntry.customer_id == report.customer_id,
            LedgerEntry.meter_id == report.meter_id,
            LedgerEntry.period_id == report.period_id,
            LedgerEntry.hour == report.hour,
        )
        .values(reported=LedgerEntry.reported + units)
    )


def _fallen(session: Session, keys: dict[str, Any]) -> Sequence[Any]:
    return session.execute(statement("fallen_hours"), keys).all()


def _keys(account: str, hours: Sequence[Any]) -> dict[str, Any]:
    return {
        "account": account,
        "customer_ids": [hour.customer_id for hour in hours],
        "meter_ids": [hour.meter_id for hour in hours],
        "period_ids": [hour.period_id for hour in hours],
        "hours": [hour.hour for hour in hours],
    }
