"""What Stripe told us: its events, and the state of subscriptions and invoices as they were fetched from it last.

Stripe's ids are unique within an account and mode; rows of different ones never meet.
"""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import Boolean, CheckConstraint, DateTime, Index, Integer, Numeric, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from metering.extensions import Model
from metering.models.columns import CreatedAt, CustomerId, Instant, RowId

Moment = datetime | None


class StripeEvent(Model):
    """A webhook event, stored before it is answered. What it says of its object is not kept: that is fetched afresh.

    `mode`: standin, test or live, as this installation runs. `object_id`: what the event is about; null for an event
    that must be fetched itself. `failed`: it was tried often enough, and waits for an operator.
    """

    __tablename__ = "stripe_events"
    __table_args__ = (
        CheckConstraint("state IN ('waiting', 'processed', 'ignored', 'failed')", name="state"),
        Index("ix_stripe_events_waiting", "next_try_at", postgresql_where=text("state = 'waiting'")),
        Index("ix_stripe_events_received_at", "received_at"),
        Index("ix_stripe_events_unsettled", "id", postgresql_where=text("state IN ('waiting', 'failed')")),
    )

    id: Mapped[RowId]
    event_id: Mapped[str] = mapped_column(Text, unique=True)
    mode: Mapped[str] = mapped_column(Text)
    livemode: Mapped[bool] = mapped_column(Boolean)
    type: Mapped[str] = mapped_column(Text)
    thin: Mapped[bool] = mapped_column(Boolean)
    object_id: Mapped[str | None] = mapped_column(Text)
    happened_at: Mapped[Instant]
    received_at: Mapped[Instant]
    state: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    next_try_at: Mapped[Instant]
    settled_at: Mapped[Moment] = mapped_column(DateTime(timezone=True))
    reason: Mapped[str | None] = mapped_column(Text)


class StripeSubscription(Model):
    """A subscription at Stripe, with the period of its items. Usage is owed within `[starts_at, ended_at)`.

    `plan` is our plan of its prices. `cancels_at`: when it is to end, by what was arranged so far.
    """

    __tablename__ = "stripe_subscriptions"
    __table_args__ = (
        UniqueConstraint("account", "stripe_id"),
        Index("ix_stripe_subscriptions_customer_id", "customer_id", "account", "starts_at"),
    )

    id: Mapped[RowId]
    account: Mapped[str] = mapped_column(Text)
    stripe_id: Mapped[str] = mapped_column(Text)
    customer_id: Mapped[CustomerId]
    status: Mapped[str] = mapped_column(Text)
    plan: Mapped[str | None] = mapped_column(Text)
    price_ids: Mapped[list[str]] = mapped_column(ARRAY(Text))
    starts_at: Mapped[Instant]
    ended_at: Mapped[Moment] = mapped_column(DateTime(timezone=True))
    cancels_at: Mapped[Moment] = mapped_column(DateTime(timezone=True))
    period_starts_at: Mapped[Instant]
    period_ends_at: Mapped[Instant]
    anchor: Mapped[Instant]
    cycle: Mapped[str] = mapped_column(Text)
    collection_paused: Mapped[bool] = mapped_column(Boolean, server_default="false")
    fetched_at: Mapped[Instant]


class Invoice(Model):
    """An invoice at Stripe. Amounts are in the currency's major unit; `currency` is an ISO 4217 code in capitals."""

    __tablename__ = "invoices"
    __table_args__ = (
        UniqueConstraint("account", "stripe_id"),
        Index("ix_invoices_customer_id", "customer_id", "issued_at", "id"),
    )

    id: Mapped[RowId]
    account: Mapped[str] = mapped_column(Text)
    stripe_id: Mapped[str] = mapped_column(Text)
    customer_id: Mapped[CustomerId]
    number: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    period_starts_at: Mapped[Instant]
    period_ends_at: Mapped[Instant]
    currency: Mapped[str] = mapped_column(Text)
    total: Mapped[Decimal] = mapped_column(Numeric(20, 4))
    amount_due: Mapped[Decimal] = mapped_column(Numeric(20, 4))
    amount_paid: Mapped[Decimal] = mapped_column(Numeric(20, 4))
    hosted_url: Mapped[str | None] = mapped_column(Text)
    pdf_url: Mapped[str | None] = mapped_column(Text)
    issued_at: Mapped[Instant]
    fetched_at: Mapped[Instant]
    created_at: Mapped[CreatedAt]
