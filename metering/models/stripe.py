"""The Stripe ledger: what Stripe was told, per account and mode, and the immutable rows that told it."""

from datetime import datetime
from decimal import Decimal

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
from metering.models.columns import (
    CreatedAt,
    CustomerFact,
    CustomerId,
    Instant,
    MeterFact,
    MeterId,
    PeriodFact,
    PeriodId,
    RowId,
)


class StripeMeter(Model):
    """Which Stripe meter stands for one of ours, in one account and mode, and what its payload's keys are called.

    `unit` is how many scaled units it counts as one. It gets whole ones alone, so each hour's are rounded down.
    """

    __tablename__ = "stripe_meters"
    __table_args__ = (CheckConstraint("unit > 0", name="unit_is_positive"),)

    account: Mapped[str] = mapped_column(Text, primary_key=True)
    meter_id: Mapped[MeterId] = mapped_column(primary_key=True)
    stripe_id: Mapped[str] = mapped_column(Text)
    event_name: Mapped[str] = mapped_column(Text)
    customer_payload_key: Mapped[str] = mapped_column(Text, server_default="stripe_customer_id")
    value_payload_key: Mapped[str] = mapped_column(Text, server_default="value")
    unit: Mapped[Decimal] = mapped_column(Numeric, server_default="1")


class StripeChange(Model):
    """An hour whose rollups or accruals changed since the ledger of an account last looked at it.

    Triggers on `rollups` and `accruals` write it in the transaction of the change, whoever makes that; so what is owed
    is found without looking through what is not.
    """

    __tablename__ = "stripe_changes"

    account: Mapped[str] = mapped_column(Text, primary_key=True)
    customer_id: Mapped[CustomerFact] = mapped_column(primary_key=True)
    meter_id: Mapped[MeterFact] = mapped_column(primary_key=True)
    period_id: Mapped[PeriodFact] = mapped_column(primary_key=True)
    hour: Mapped[Instant] = mapped_column(primary_key=True)


class LedgerEntry(Model):
    """What was reported for one hour of a period: the sum of its report rows, without those that were withdrawn."""

    __tablename__ = "stripe_ledger"

    account: Mapped[str] = mapped_column(Text, primary_key=True)
    customer_id: Mapped[CustomerId] = mapped_column(primary_key=True)
    meter_id: Mapped[MeterId] = mapped_column(primary_key=True)
    period_id: Mapped[PeriodId] = mapped_column(primary_key=True)
    hour: Mapped[Instant] = mapped_column(primary_key=True)
    reported: Mapped[int] = mapped_column(Numeric(30, 0), server_default="0")
    revision: Mapped[int] = mapped_column(Integer, server_default="0")


class StripeStop(Model):
    """A key that Stripe refuses: nothing is sent with it until an operator acts. The digest tells keys apart."""

    __tablename__ = "stripe_stops"

    key_digest: Mapped[str] = mapped_column(Text, primary_key=True)
    reason: Mapped[str] = mapped_column(Text)
    since: Mapped[Instant]


WAITING = ("pending", "cancelling", "doubtful")
"""States that wait for a call to Stripe: to be sent, to be taken back there, to be looked up there."""


class StripeReport(Model):
    """One meter event for Stripe. Value, timestamp and identifier never change; only its fate is written down.

    `observed`: not sent by us, but seen in Stripe's own summary (negative: missing there). `withdrawn`: not counted at
    Stripe, or not any more, and replaced by what the hour owes now; the one state that `reported` leaves out.

    `first_sent_at` is the first sending that may have been counted without our learning of it: a plain refusal clears
    it. `last_sent_at` is when the latest call about it ended, or began where nobody knows its end; `cancel_sent_at` the
    first attempt to take the row back. `settled_at` is when the row stopped to wait.
    """

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
        CheckConstraint(
            "state IN ('pending', 'cancelling', 'doubtful', 'accepted', 'observed', 'parked', 'written_off', "
            "'withdrawn')",
            name="state",
        ),
        CheckConstraint("value <> 0 AND abs(value) < 1000000000000000", name="value_has_15_digits"),
        CheckConstraint("length(identifier) <= 100", name="identifier_fits"),
        UniqueConstraint("account", "identifier"),
        # The heads of the queues, one a customer and meter, are read from this index alone.
        Index(
            "ix_stripe_reports_waiting",
            "account",
            "customer_id",
            "meter_id",
            "id",
            postgresql_where=text("state IN ('pending', 'cancelling', 'doubtful')"),
        ),
        Index("ix_stripe_reports_settled", "account", "state", "settled_at"),
        # What stands beside a row in Stripe's summary of its hour.
        Index("ix_stripe_reports_timestamp", "account", "meter_id", "stripe_customer_id", "timestamp"),
        Index("ix_stripe_reports_ledger", "account", "customer_id", "meter_id", "period_id", "hour"),
        # What operators page through: all rows, those of a customer, and those that came to another end than usual.
        Index("ix_stripe_reports_hour", "hour", "id"),
        Index("ix_stripe_reports_customer", "customer_id", "hour", "id"),
        Index(
            "ix_stripe_reports_unusual",
            "state",
            "hour",
            "id",
            postgresql_where=text("state IN ('parked', 'written_off', 'withdrawn', 'observed')"),
        ),
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
    last_sent_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    cancel_sent_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    settled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    fault: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[CreatedAt]
