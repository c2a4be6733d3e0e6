"""Aggregates that the drain keeps in the transaction that stores the events."""

from datetime import datetime

from sqlalchemy import BigInteger, DateTime, Numeric, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from metering.extensions import Model
from metering.models.columns import CustomerFact, Instant, KeyText, MeterFact, PeriodFact


class Rollup(Model):
    """The total of a meter for a customer, period, UTC hour and group (canonical JSON of the group-by values).

    `units` is the sum and `events` the count; `minimum`, `maximum` and `latest` serve the meters that ask for them.
    `latest_at`, `latest_position` and `latest_item` are the place of the latest value, which decides between two of one
    instant.
    """

    __tablename__ = "rollups"

    customer_id: Mapped[CustomerFact] = mapped_column(primary_key=True)
    meter_id: Mapped[MeterFact] = mapped_column(primary_key=True)
    period_id: Mapped[PeriodFact] = mapped_column(primary_key=True)
    hour: Mapped[Instant] = mapped_column(primary_key=True)
    grp: Mapped[KeyText] = mapped_column(primary_key=True)
    units: Mapped[int] = mapped_column(Numeric(30, 0))
    events: Mapped[int] = mapped_column(BigInteger)
    minimum: Mapped[int | None] = mapped_column(BigInteger)
    maximum: Mapped[int | None] = mapped_column(BigInteger)
    latest: Mapped[int | None] = mapped_column(BigInteger)
    latest_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    latest_position: Mapped[int | None] = mapped_column(BigInteger)
    latest_item: Mapped[int | None] = mapped_column(SmallInteger)


class PeriodTotal(Model):
    """The total of a meter for a customer and period: what limits, cards and bills read, at a cost that never grows."""

    __tablename__ = "period_totals"

    customer_id: Mapped[CustomerFact] = mapped_column(primary_key=True)
    meter_id: Mapped[MeterFact] = mapped_column(primary_key=True)
    period_id: Mapped[PeriodFact] = mapped_column(primary_key=True)
    units: Mapped[int] = mapped_column(Numeric(30, 0))
    events: Mapped[int] = mapped_column(BigInteger)
