"""The Stripe ledger: what Stripe was told, per account and mode, and the immutable rows that told it."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKeyConstraint,
    Index,
    Integer,
    Numeric,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from metering.extensions import Model
from metering.models.columns import CreatedAt, CustomerId, Instant, MeterId, PeriodId, RowId


class StripeMeter(Model):
    """Which Stripe meter stands for one of ours, in one account and mode."""

    __tablename__ = "stripe_meters"

    account: Mapped[str] = mapped_column(Text, primary_key=True)
    meter_id: Mapped[MeterId] = mapped_column(primary_key=True)
    stripe_id: Mapped[str] = mapped_column(Text)
    event_name: Mapped[str] = mapped_column(Text)


class LedgerEntry(Model):
    """What was reported for one hour of a period: the sum of its report rows that were not discarded."""

    __tablename__ = "stripe_ledger"

    account: Mapped[str] = mapped_column(Text, primary_key=True)
    customer_id: Mapped[CustomerId] = mapped_column(primary_key=True)
    meter_id: Mapped[MeterId] = mapped_column(primary_key=True)
    period_id: Mapped[PeriodId] = mapped_column(primary_key=True)
    hour: Mapped[Instant] = mapped_column(primary_key=True)
    reported: Mapped[int] = mapped_column(Numeric(30, 0), server_default="0")
    revision: Mapped[int] = mapped_column(Integer, server_default="0")


class StripeReport(Model):
    """One meter event for Stripe. Value, time stamp and identifier never change; only its fate is written down."""

    __tablename__ = "stripe_reports"
    __table_args__ = (
        ForeignKeyConstraint(
            ["account", "customer_id", "meter_id", "period_id", "hour"],
            [
                "stripe_ledger.account",
                "stripe_ledger.customer_id",
                "stripe_ledger.meter_id",
                "stripe_ledger.period_id",
                "stripe_ledger.hour",
            ],
            name="fk_stripe_reports_ledger",
        ),
        CheckConstraint("state IN ('pending', 'accepted', 'parked', 'written_off')", name="state"),
        UniqueConstraint("account", "identifier"),
        Index("ix_stripe_reports_due", "next_try_at", "id", postgresql_where=text("state = 'pending'")),
        Index("ix_stripe_reports_ledger", "account", "customer_id", "meter_id", "period_id", "hour"),
    )

    id: Mapped[RowId]
    account: Mapped[str] = mapped_column(Text)
    customer_id: Mapped[int] = mapped_column(BigInteger)
    meter_id: Mapped[int] = mapped_column(BigInteger)
    period_id: Mapped[int] = mapped_column(BigInteger)
    hour: Mapped[Instant]
    revision: Mapped[int]
    part: Mapped[int]
    event_name: Mapped[str] = mapped_column(Text)
    stripe_customer_id: Mapped[str] = mapped_column(Text)
    value: Mapped[int] = mapped_column(BigInteger)
    timestamp: Mapped[Instant]
    identifier: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text, server_default="pending")
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    next_try_at: Mapped[Instant]
    first_sent_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    settled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    fault: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[CreatedAt]
