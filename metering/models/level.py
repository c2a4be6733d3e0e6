"""Levels (what is stored, who has a seat) and what they cost by the hour."""

from decimal import Decimal

from sqlalchemy import BigInteger, Numeric
from sqlalchemy.orm import Mapped, mapped_column

from metering.extensions import Model
from metering.models.columns import CustomerFact, Instant, MeterFact, PeriodFact, Units


class Level(Model):
    """The level now, and `opening`, the level at `accrued_until`: everything before that hour has its accrual."""

    __tablename__ = "levels"

    customer_id: Mapped[CustomerFact] = mapped_column(primary_key=True)
    meter_id: Mapped[MeterFact] = mapped_column(primary_key=True)
    level: Mapped[Units]
    opening: Mapped[Units]
    accrued_until: Mapped[Instant]


class Accrual(Model):
    """What a level cost in one hour of one period.

    `units` are unit-seconds for meters billed time-weighted, and the rise of the period's maximum for those billed
    by it; `closing` is the level at the end of the hour, `peak` the highest level of the period so far.
    """

    __tablename__ = "accruals"

    customer_id: Mapped[CustomerFact] = mapped_column(primary_key=True)
    meter_id: Mapped[MeterFact] = mapped_column(primary_key=True)
    period_id: Mapped[PeriodFact] = mapped_column(primary_key=True)
    hour: Mapped[Instant] = mapped_column(primary_key=True)
    units: Mapped[Decimal] = mapped_column(Numeric(30, 0))
    closing: Mapped[int] = mapped_column(BigInteger)
    peak: Mapped[int] = mapped_column(BigInteger)
