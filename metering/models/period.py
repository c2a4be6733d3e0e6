"""A customer's billing periods, `[starts_at, ends_at)`: stored, never computed on the fly."""

from datetime import datetime

from sqlalchemy import CheckConstraint, DateTime, Index, Text
from sqlalchemy.dialects.postgresql import ExcludeConstraint
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.sql import text

from metering.extensions import Model
from metering.models.columns import CustomerId, Instant, RowId


class Period(Model):
    """`plan` is the plan that bills it. Once `closed_at` is set, late events count in the current period.

    `anchor` and `cycle` ("1 month", "1 year") are those of the Stripe subscription that it was copied from: the periods
    after it go on in that rhythm. Without them calendar months follow.
    """

    __tablename__ = "periods"
    __table_args__ = (
        CheckConstraint("starts_at < ends_at", name="half_open"),
        CheckConstraint("(anchor IS NULL) = (cycle IS NULL)", name="rhythm_is_whole"),
        # int8range stands in for "=" on the customer, so that no extension has to be installed.
        ExcludeConstraint(
            (text("int8range(customer_id, customer_id, '[]')"), "&&"),
            (text("tstzrange(starts_at, ends_at)"), "&&"),
            name="ex_periods_no_overlap",
            using="gist",
        ),
        Index("ix_periods_customer_id_starts_at", "customer_id", "starts_at", unique=True),
        Index("ix_periods_ends_at", "ends_at"),
    )

    id: Mapped[RowId]
    customer_id: Mapped[CustomerId]
    starts_at: Mapped[Instant]
    ends_at: Mapped[Instant]
    plan: Mapped[str] = mapped_column(Text)
    anchor: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    cycle: Mapped[str | None] = mapped_column(Text)
    closed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
