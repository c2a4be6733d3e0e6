"""Stripe counts less than it accepted: what is missing is sent anew, hour by hour.

Always holds: only hours of which everything has settled are touched, and only by what Stripe's summary of that very
hour lacks; the books say both, what was seen to be missing and what was sent for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.clock import floor_hour
from metering.models import StripeReport
from metering.stripe_sync.claims import SessionFactory
from metering.stripe_sync.doubt import HOUR, read_window
from metering.stripe_sync.ledger import MAX_AGE, lock_hour_of, observe


@dataclass(frozen=True, slots=True)
class Series:
    """The hours of a customer, meter and period, as one customer of Stripe's has them."""

    account: str
    customer_id: int
    meter_id: int
    period_id: int
    stripe_customer: str


def top_up(
    sessions: SessionFactory,
    series: Series,
    found: Mapping[datetime, Decimal],
    *,
    asked_at: datetime,
    summary_delay: timedelta,
    now: datetime,
) -> int:
    """Units that are sent anew for a series of which Stripe answered `found` by hour, at `asked_at`."""
    with sessions() as session:
        latest = _latest_of_each_hour(session, series)
    sent = 0
    for hour, row_id in sorted(latest.items()):
        if hour < now - MAX_AGE:
            continue
        with sessions() as session, session.begin():
            row = lock_hour_of(session, row_id)
            if row is None:
                continue
            window, counted = read_window(session, row), found.get(hour, Decimal(0))
            missing = window.certain - int(counted)
            settled = not window.uncertain and window.last_sent_at + summary_delay <= asked_at
            if settled and counted == int(counted) and missing > 0:
                why = f"Stripe's summary of {hour:%Y-%m-%d %H:00} UTC says {counted:f} instead of {window.certain}"
                observe(session, row, -missing, now, why)
                sent += missing
    return sent


def hours_between(starts_at: datetime, ends_at: datetime) -> tuple[datetime, datetime]:
    """The whole UTC hours around a span."""
    return floor_hour(starts_at), floor_hour(ends_at - timedelta(microseconds=1)) + HOUR


def _latest_of_each_hour(session: Session, series: Series) -> dict[datetime, int]:
    """One accepted row for each of Stripe's hours."""
    rows = session.execute(
        select(StripeReport.id, StripeReport.timestamp)
        .where(
            StripeReport.account == series.account,
            StripeReport.customer_id == series.customer_id,
            StripeReport.meter_id == series.meter_id,
            StripeReport.period_id == series.period_id,
            StripeReport.stripe_customer_id == series.stripe_customer,
            StripeReport.state == "accepted",
        )
        .order_by(StripeReport.id)
    )
    return {floor_hour(timestamp): row_id for row_id, timestamp in rows}
