"""What comparisons with Stripe found: one row a run, and one for each difference it saw."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import BigInteger, Boolean, CheckConstraint, DateTime, ForeignKey, Index, Integer, Numeric, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from metering.extensions import Model
from metering.models.columns import Instant, RowId


class Reconciliation(Model):
    """`daily` over everybody, `closing` over periods that ended, before their invoices are final, or `asked` for.

    `done_until` is the last customer's id that it came to, `ended_until` the latest end of a period of a closing one.
    `compared` counts series: customer, meter and period.
    """

    __tablename__ = "reconciliations"
    __table_args__ = (
        CheckConstraint("kind IN ('daily', 'closing', 'asked')", name="kind"),
        Index("ix_reconciliations_account", "account", "kind", "started_at"),
    )

    id: Mapped[RowId]
    account: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    started_at: Mapped[Instant]
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    done_until: Mapped[int] = mapped_column(BigInteger, server_default="0")
    ended_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    compared: Mapped[int] = mapped_column(Integer, server_default="0")


class ReconciledDifference(Model):
    """`used`, `reported` and `at_stripe` in scaled units, the latter null where Stripe could not be asked; `estimated`
    and `invoiced` are our amount and that of Stripe's preview, in the currency's major unit. It stands until
    `replaced_at`, when its customer and period were compared again.
    """

    __tablename__ = "reconciled_differences"
    __table_args__ = (
        Index("ix_reconciled_differences_standing", "customer", postgresql_where=text("replaced_at IS NULL")),
    )

    id: Mapped[RowId]
    reconciliation_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("reconciliations.id", ondelete="CASCADE"), index=True
    )
    customer: Mapped[str] = mapped_column(Text)
    meter: Mapped[str] = mapped_column(Text)
    period_starts_at: Mapped[Instant]
    used: Mapped[int] = mapped_column(Numeric(30, 0))
    reported: Mapped[int] = mapped_column(Numeric(30, 0))
    at_stripe: Mapped[Decimal | None] = mapped_column(Numeric)
    estimated: Mapped[Decimal | None] = mapped_column(Numeric)
    invoiced: Mapped[Decimal | None] = mapped_column(Numeric)
    causes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    done: Mapped[str] = mapped_column(Text)
    needs_operator: Mapped[bool] = mapped_column(Boolean)
    replaced_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
