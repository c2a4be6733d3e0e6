"""Webhooks out: a customer's own endpoints, what is delivered to them, and each try."""

from datetime import datetime

from sqlalchemy import BigInteger, Boolean, DateTime, ForeignKey, Index, Integer, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from metering.extensions import Model
from metering.models.columns import CreatedAt, CustomerId, Instant, RowId


class WebhookEndpoint(Model):
    """`secret` signs; `old_secret` does as well until `old_secret_until`. Both are kept as they are: a signature needs
    them. `failing_since`: no try has succeeded since then. `off_reason` says why it was switched off, if not by hand.
    """

    __tablename__ = "webhook_endpoints"

    id: Mapped[RowId]
    customer_id: Mapped[CustomerId] = mapped_column(index=True)
    url: Mapped[str] = mapped_column(Text)
    events: Mapped[list[str]] = mapped_column(ARRAY(Text))
    secret: Mapped[str] = mapped_column(Text)
    old_secret: Mapped[str | None] = mapped_column(Text)
    old_secret_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    enabled: Mapped[bool] = mapped_column(Boolean, server_default="true")
    failing_since: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    off_reason: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[CreatedAt]


class WebhookDelivery(Model):
    """One message to one endpoint. `body` is what is signed and sent, to the byte; `next_try_at` is null once it was
    delivered or given up. `alert_id`: of which alert it tells, if of one.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index("ix_webhook_deliveries_waiting", "next_try_at", postgresql_where=text("next_try_at IS NOT NULL")),
    )

    id: Mapped[RowId]
    endpoint_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("webhook_endpoints.id", ondelete="CASCADE"), index=True
    )
    alert_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("alerts.id", ondelete="SET NULL"), index=True)
    message_id: Mapped[str] = mapped_column(Text, unique=True)
    event: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    created_at: Mapped[CreatedAt]
    tries: Mapped[int] = mapped_column(Integer, server_default="0")
    next_try_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    delivered_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class WebhookTry(Model):
    """One try of a delivery: either a status and the beginning of the answer's body, or the fault."""

    __tablename__ = "webhook_tries"

    id: Mapped[RowId]
    delivery_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("webhook_deliveries.id", ondelete="CASCADE"), index=True
    )
    at: Mapped[Instant]
    status: Mapped[int | None] = mapped_column(Integer)
    response: Mapped[str | None] = mapped_column(Text)
    fault: Mapped[str | None] = mapped_column(Text)
