"""The way of one event: the hour that counted it, the period that bills it, and what Stripe was told of that hour."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.catalog.aggregations import to_quantity
from metering.clock import floor_hour
from metering.models import (
    Accrual,
    ApiKey,
    Customer,
    Event,
    Invoice,
    MeterRow,
    Period,
    Rollup,
    StripeMeter,
    StripeReport,
    StripeSubscription,
)
from metering.store.event_list import StoredEvent, event_by_digest
from metering.stripe_sync.invoices import SHOWN
from metering.stripe_sync.mirror import NOT_BEGUN

HOUR = timedelta(hours=1)

Unreported = Literal["not_linked", "no_customer", "not_subscribed", "open_hour", "waits"]


@dataclass(frozen=True, slots=True)
class Key:
    """The API key by which an event came."""

    name: str
    prefix: str


@dataclass(frozen=True, slots=True)
class Billed:
    """The invoice of the event's period, once there is one."""

    id: int
    number: str | None
    status: str


@dataclass(frozen=True, slots=True)
class Reported:
    """A row that told Stripe of the event's hour. `value` is in Stripe's units; `at`: when it was settled or made."""

    identifier: str
    value: int
    state: str
    at: datetime
    fault: str | None


@dataclass(frozen=True, slots=True)
class EventPath:
    """`quantity` and `events` are what the hour came to, for usage in the event's own group; of a level `accrued` are
    the charged unit-seconds, or the rise of the maximum, in scaled units. None: that hour is not closed yet.
    """

    event: StoredEvent
    key: Key | None
    hour: datetime
    quantity: Decimal | None
    events: int | None
    accrued: Decimal | None
    plan: str
    period_closed_at: datetime | None
    invoice: Billed | None
    reports: tuple[Reported, ...]
    unreported: Unreported | None
    """Why Stripe knows nothing of the hour yet."""
    due_at: datetime
    """When the hour is closed and reported."""


def path_of(
    session: Session, digest: str, *, customer: Customer, settle_seconds: float, now: datetime
) -> EventPath | None:
    """The way of a customer's event; None where it has no such event."""
    event = event_by_digest(session, digest, customer=customer.key)
    if event is None:
        return None
    row = session.scalars(select(Event).where(Event.digest == UUID(hex=event.digest))).one()
    meter, period = session.get_one(MeterRow, row.meter_id), session.get_one(Period, row.period_id)
    hour = floor_hour(row.counted_at if row.op in ("change", "set") else row.time)
    place = (customer.id, row.meter_id, row.period_id, hour)
    rollup = session.get(Rollup, (*place, row.grp))
    accrual = session.get(Accrual, place)
    due_at = hour + HOUR + timedelta(seconds=settle_seconds)
    reports = _reports(session, place)
    return EventPath(
        event=event,
        key=_key(session, row),
        hour=hour,
        quantity=to_quantity(int(rollup.units), meter.scale) if rollup else None,
        events=rollup.events if rollup else None,
        accrued=accrual.units if accrual else None,
        plan=period.plan,
        period_closed_at=period.closed_at,
        invoice=_invoice(session, period),
        reports=reports,
        unreported=None if reports else _why_not(session, customer, row.meter_id, hour, period, due_at, now),
        due_at=due_at,
    )


def _key(session: Session, event: Event) -> Key | None:
    """The customer's own key; those of operators are none of its business."""
    found = session.get(ApiKey, event.key_id) if event.key_id is not None else None
    return Key(found.name, found.prefix) if found and found.customer_id == event.customer_id else None


def _reports(session: Session, place: tuple[int, int, int, datetime]) -> tuple[Reported, ...]:
    customer_id, meter_id, period_id, hour = place
    query = select(StripeReport).where(
        StripeReport.customer_id == customer_id,
        StripeReport.meter_id == meter_id,
        StripeReport.period_id == period_id,
        StripeReport.hour == hour,
    )
    return tuple(
        Reported(one.identifier, one.value, one.state, one.settled_at or one.created_at, one.fault)
        for one in session.scalars(query.order_by(StripeReport.id))
    )


def _invoice(session: Session, period: Period) -> Billed | None:
    """Stripe bills usage in arrears: the invoice of a period is issued when that is over, and covers it."""
    query = select(Invoice).where(
        Invoice.customer_id == period.customer_id,
        Invoice.status.in_(SHOWN),
        Invoice.period_starts_at < period.ends_at,
        Invoice.period_ends_at > period.starts_at,
        Invoice.issued_at >= period.ends_at,
    )
    found = session.scalars(query.order_by(Invoice.issued_at, Invoice.id).limit(1)).one_or_none()
    return Billed(found.id, found.number, found.status) if found else None


def _why_not(
    session: Session,
    customer: Customer,
    meter_id: int,
    hour: datetime,
    period: Period,
    due_at: datetime,
    now: datetime,
) -> Unreported:
    accounts = session.scalars(select(StripeMeter.account).where(StripeMeter.meter_id == meter_id)).all()
    if not accounts:
        return "not_linked"
    if customer.stripe_customer_id is None:
        return "no_customer"
    from_ = max(hour, period.starts_at)
    subscribed = select(StripeSubscription.id).where(
        StripeSubscription.customer_id == customer.id,
        StripeSubscription.account.in_(accounts),
        StripeSubscription.status.not_in(NOT_BEGUN),
        StripeSubscription.starts_at <= from_,
        (StripeSubscription.ended_at.is_(None)) | (StripeSubscription.ended_at > from_),
    )
    if session.scalar(subscribed.limit(1)) is None:
        return "not_subscribed"
    return "open_hour" if now < due_at else "waits"
