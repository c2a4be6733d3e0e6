"""What the pages know right now: live figures from Redis, the last written ones from PostgreSQL while Redis is away,
and of PostgreSQL what it can say at all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.accounts.users import SEATS
from metering.billing.estimate import Estimate, estimate, usage_quantities
from metering.billing.periods import current_period, ensure_periods
from metering.catalog import Catalog, Meter
from metering.dashboard.access import Access, current_metering, database_is_away, note_database_away
from metering.dashboard.faults import DATABASE_AWAY
from metering.errors import IntakeUnavailable, UnknownCustomer
from metering.extensions import db
from metering.intake.values import MeterStanding, Span
from metering.models import Customer, Level, MeterRow, PartitionRow, Period, PeriodTotal
from metering.service import MeterUsage, Summary, usage_of
from metering.store.state import touch

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Figures:
    """A customer's usage. Without `live` it is what was written down last, `as_of` a moment that may be unknown."""

    summary: Summary
    live: bool
    as_of: datetime | None = None

    @property
    def used_anything(self) -> bool:
        """Seats are taken by the members themselves, before anything was called."""
        return any(one.used > 0 or one.held > 0 for one in self.summary.meters if one.meter != SEATS)


def from_database(read: Callable[[Session], T]) -> T | None:
    """What `read` finds, or None while PostgreSQL is away, so that a page shows what it can."""
    if database_is_away():
        return None
    try:
        return read(db.session())
    except DATABASE_AWAY:
        note_database_away()
        return None


def read_figures(access: Access) -> Figures:
    """The live figures, else the stored ones. Raises IntakeUnavailable, UnknownCustomer when neither can be read."""
    metering = current_metering()
    try:
        return Figures(metering.summary(access.customer_key), live=True)
    except (IntakeUnavailable, UnknownCustomer):  # Redis does not know a customer that was made while it was away
        now, catalog = metering.runtime.clock(), metering.runtime.catalog
        stored = from_database(lambda session: stored_figures(session, catalog, access, now))
        if stored is None:
            raise
        return stored


def read_estimate(access: Access) -> Estimate | None:
    """The bill so far; None while PostgreSQL is away."""
    runtime = current_metering().runtime
    now = runtime.clock()

    def read(session: Session) -> Estimate:
        customer = session.get_one(Customer, access.customer_id)
        return estimate(session, runtime.catalog, customer, stored_period(session, customer, now), now=now)

    return from_database(read)


def stored_period(session: Session, customer: Customer, now: datetime) -> Period:
    """The period that holds `now`, made here if the job that makes them is late, so that no page fails for that."""
    holds_now = (Period.customer_id == customer.id, Period.starts_at <= now, Period.ends_at > now)
    if session.scalar(select(Period.id).where(*holds_now)) is None and ensure_periods(session, [customer], now):
        touch(session, [customer.id])
        session.commit()
    return current_period(session, customer.id, now)


def stored_figures(session: Session, catalog: Catalog, access: Access, now: datetime) -> Figures:
    """The totals and levels that the drain has written."""
    customer = session.get_one(Customer, access.customer_id)
    period = stored_period(session, customer, now)
    used = usage_quantities(session, customer.id, period.id) | _levels(session, customer.id)
    meters = tuple(
        _usage(catalog, period, meter, used.get(meter.key, Decimal(0)))
        for meter in catalog.meters.values()
        if meter.counts_live
    )
    span = Span(period.id, period.starts_at, period.ends_at)
    as_of = session.scalar(select(PartitionRow.drained_at).where(PartitionRow.partition == access.partition))
    return Figures(Summary(customer.key, period.plan, span, meters), live=False, as_of=as_of)


def _levels(session: Session, customer_id: int) -> dict[str, Decimal]:
    rows = session.execute(
        select(MeterRow.key, Level.level)
        .join(MeterRow, MeterRow.id == Level.meter_id)
        .where(Level.customer_id == customer_id)
    )
    return {key: Decimal(level) for key, level in rows}


def _usage(catalog: Catalog, period: Period, meter: Meter, units: Decimal) -> MeterUsage:
    limit, mode = catalog.limit_units(period.plan, meter)
    standing = MeterStanding(meter.key, mode, limit, used=int(units), held=0)
    return usage_of(catalog, period.plan, standing, period.ends_at)


def read_used_before(access: Access) -> bool:
    """While PostgreSQL is away nobody is told to begin: they may have long begun."""
    return from_database(lambda session: used_before(session, access.customer_id)) is not False


def used_before(session: Session, customer_id: int) -> bool:
    """Whether a customer ever used anything; seats are taken by its members themselves."""
    totals = select(PeriodTotal.customer_id).join(MeterRow, MeterRow.id == PeriodTotal.meter_id)
    mine = totals.where(PeriodTotal.customer_id == customer_id, MeterRow.key != SEATS)
    return session.scalar(mine.limit(1)) is not None
