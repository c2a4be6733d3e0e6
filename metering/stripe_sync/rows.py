"""Report rows as operators look through them, with the names of what they speak of."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Select, and_, func, select, tuple_
from sqlalchemy.orm import Session

from metering.models import Customer, MeterRow, StripeMeter, StripeReport

STATES = ("pending", "cancelling", "doubtful", "accepted", "parked", "written_off", "withdrawn", "observed")

Place = tuple[datetime, int]
"""Where a page begins: the hour and the id of the row before it."""


@dataclass(frozen=True, slots=True)
class NamedRow:
    """`customer` and `meter` are keys; `unit` is how many scaled units of the meter Stripe counts as one."""

    row: StripeReport
    customer: str
    meter: str
    unit: Decimal


@dataclass(frozen=True, slots=True)
class RowFilter:
    """All of what is set must hold; `[since, until)` is about the hour that a row tells of."""

    customer: str | None = None
    meter: str | None = None
    state: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def parked_rows(session: Session) -> Sequence[NamedRow]:
    """Rows that Stripe refused, the oldest first."""
    query = _named().where(StripeReport.state == "parked").order_by(StripeReport.id)
    return [NamedRow(*found) for found in session.execute(query)]


def find_row(session: Session, report_id: int) -> NamedRow | None:
    found = session.execute(_named().where(StripeReport.id == report_id))
    return next((NamedRow(*one) for one in found), None)


def rows_of_hour(session: Session, row: StripeReport) -> Sequence[StripeReport]:
    """All that was told of a row's hour, in the order in which it was."""
    query = select(StripeReport).where(
        StripeReport.account == row.account,
        StripeReport.customer_id == row.customer_id,
        StripeReport.meter_id == row.meter_id,
        StripeReport.period_id == row.period_id,
        StripeReport.hour == row.hour,
    )
    return session.scalars(query.order_by(StripeReport.id)).all()


def list_rows(session: Session, wanted: RowFilter, *, before: Place | None, limit: int) -> Sequence[NamedRow]:
    """The newest hour first; those behind `before`."""
    query = _named()
    if wanted.customer:
        # As a value, so that the index of the customer's own rows is taken.
        customer_id = session.scalar(select(Customer.id).where(Customer.key == wanted.customer))
        query = query.where(StripeReport.customer_id == (customer_id or 0))
    if wanted.meter:
        query = query.where(MeterRow.key == wanted.meter)
    if wanted.state:
        query = query.where(StripeReport.state == wanted.state)
    if wanted.since:
        query = query.where(StripeReport.hour >= wanted.since)
    if wanted.until:
        query = query.where(StripeReport.hour < wanted.until)
    if before:
        query = query.where(tuple_(StripeReport.hour, StripeReport.id) < before)
    query = query.order_by(StripeReport.hour.desc(), StripeReport.id.desc()).limit(limit)
    return [NamedRow(*found) for found in session.execute(query)]


def _named() -> Select[StripeReport, str, str, Decimal]:
    of_row = and_(StripeMeter.account == StripeReport.account, StripeMeter.meter_id == StripeReport.meter_id)
    return (
        select(StripeReport, Customer.key, MeterRow.key, func.coalesce(StripeMeter.unit, Decimal(1)))
        .join(Customer, Customer.id == StripeReport.customer_id)
        .join(MeterRow, MeterRow.id == StripeReport.meter_id)
        .outerjoin(StripeMeter, of_row)
    )
