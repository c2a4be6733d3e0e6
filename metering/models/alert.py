"""A threshold that was crossed: once per customer, meter, period and percent of the limit."""

from datetime import datetime

from sqlalchemy import DateTime, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from metering.extensions import Model
from metering.models.columns import CustomerId, Instant, MeterId, PeriodId, RowId, Units


class Alert(Model):
    __tablename__ = "alerts"
    __table_args__ = (UniqueConstraint("customer_id", "period_id", "meter_id", "percent", "limit_units"),)

    id: Mapped[RowId]
    customer_id: Mapped[CustomerId]
    meter_id: Mapped[MeterId]
    period_id: Mapped[PeriodId]
    percent: Mapped[int]
    units: Mapped[Units]
    limit_units: Mapped[Units]
    crossed_at: Mapped[Instant]
    dismissed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
