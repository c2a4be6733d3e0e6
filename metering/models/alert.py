"""At what a customer is alerted, and what has fired."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Index, Numeric, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from metering.extensions import Model
from metering.models.columns import CreatedAt, CustomerId, Instant, PeriodId, RowId


class AlertThreshold(Model):
    """One of a customer's own, beside the percents that hold for all meters (`customers.alert_percents`).

    `value` by `kind`: "percent" of the meter's limit; "quantity" in the meter's unit; "money", an amount in the
    catalog's currency that the bill of a period reaches.
    """

    __tablename__ = "alert_thresholds"
    __table_args__ = (
        UniqueConstraint("customer_id", "meter_id", "kind", "value", postgresql_nulls_not_distinct=True),
        CheckConstraint("kind IN ('percent', 'quantity', 'money')", name="kind"),
        CheckConstraint("(kind = 'money') = (meter_id IS NULL)", name="money_has_no_meter"),
        CheckConstraint("value > 0", name="positive"),
    )

    id: Mapped[RowId]
    customer_id: Mapped[CustomerId]
    meter_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("meters.id"))
    kind: Mapped[str] = mapped_column(Text)
    value: Mapped[Decimal] = mapped_column(Numeric)
    created_at: Mapped[CreatedAt]


class Alert(Model):
    """A threshold that was crossed: once per customer, period and threshold; one in percent, once a limit.

    `kind` and `value` are those of the threshold. `units` were used when it was noticed; of a "percent", `limit_units`
    was the limit; of "money", `total` in `currency` is what the bill had come to.
    """

    __tablename__ = "alerts"
    __table_args__ = (
        UniqueConstraint(
            *("customer_id", "period_id", "meter_id", "kind", "value", "limit_units"),
            postgresql_nulls_not_distinct=True,
        ),
        CheckConstraint("kind IN ('percent', 'quantity', 'money')", name="kind"),
        CheckConstraint("(kind = 'money') = (meter_id IS NULL)", name="money_has_no_meter"),
        CheckConstraint("(kind = 'money') = (units IS NULL)", name="units"),
        CheckConstraint("(kind = 'percent') = (limit_units IS NOT NULL)", name="limit_of_percent"),
        CheckConstraint("(kind = 'money') = (total IS NOT NULL AND currency IS NOT NULL)", name="total_of_money"),
    )

    id: Mapped[RowId]
    customer_id: Mapped[CustomerId]
    meter_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("meters.id"))
    period_id: Mapped[PeriodId]
    kind: Mapped[str] = mapped_column(Text, server_default="percent")
    value: Mapped[Decimal] = mapped_column(Numeric)
    units: Mapped[int | None] = mapped_column(Numeric(30, 0))
    limit_units: Mapped[int | None] = mapped_column(BigInteger)
    total: Mapped[Decimal | None] = mapped_column(Numeric)
    currency: Mapped[str | None] = mapped_column(Text)
    crossed_at: Mapped[Instant]
    dismissed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class MailedAlert(Model):
    """An alert that an e-mail tells of; one e-mail may tell of several."""

    __tablename__ = "mailed_alerts"
    __table_args__ = (Index("ix_mailed_alerts_mail_id", "mail_id"),)

    alert_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("alerts.id", ondelete="CASCADE"), primary_key=True)
    mail_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("mails.id", ondelete="CASCADE"), primary_key=True)
