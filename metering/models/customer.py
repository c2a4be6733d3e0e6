"""The billed party. What the intake must know of it is sent to Redis whenever `state_version` has risen.

`sent_terms` is the fingerprint of the catalog's terms (limits and rates) that were sent last.
"""

from sqlalchemy import BigInteger, CheckConstraint, Index, Integer, SmallInteger, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from metering.extensions import Model
from metering.models.columns import CreatedAt, KeyText, Name, RowId


class Customer(Model):
    """`plan` is that of the period that runs; a plan that begins with the next one stands in its row of `periods`.

    `alert_percents` are the customer's own alert thresholds; null where the catalog's hold.
    """

    __tablename__ = "customers"
    __table_args__ = (
        CheckConstraint("status IN ('active', 'suspended')", name="status"),
        # The sweep that looks for state not yet sent finds it without reading the table.
        Index("ix_customers_unsent", "id", postgresql_where=text("sent_version < state_version")),
        Index("ix_customers_name", text("lower(name) text_pattern_ops")),
        Index("ix_customers_stripe_customer_id", "stripe_customer_id"),
    )

    id: Mapped[RowId]
    key: Mapped[KeyText] = mapped_column(unique=True)
    name: Mapped[Name]
    timezone: Mapped[str] = mapped_column(Text, server_default="UTC")
    plan: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text, server_default="active")
    stripe_customer_id: Mapped[str | None] = mapped_column(Text)
    alert_percents: Mapped[list[int] | None] = mapped_column(ARRAY(Integer))
    partition: Mapped[int] = mapped_column(SmallInteger)
    state_version: Mapped[int] = mapped_column(BigInteger, server_default="1")
    sent_version: Mapped[int] = mapped_column(BigInteger, server_default="0")
    sent_terms: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[CreatedAt]
