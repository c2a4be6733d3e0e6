"""E-mails that are to be sent: written in the transaction of what they tell of, sent afterwards."""

from datetime import datetime

from sqlalchemy import BigInteger, DateTime, Index, Integer, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from metering.extensions import Model
from metering.models.columns import CreatedAt, Instant, RowId


class Mail(Model):
    """`next_try_at` is null once it was sent or given up; `fault` says why the last try failed."""

    __tablename__ = "mails"
    __table_args__ = (Index("ix_mails_waiting", "next_try_at", postgresql_where=text("next_try_at IS NOT NULL")),)

    id: Mapped[RowId]
    customer_id: Mapped[int | None] = mapped_column(BigInteger)
    recipient: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[Instant]
    tries: Mapped[int] = mapped_column(Integer, server_default="0")
    next_try_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    sent_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    fault: Mapped[str | None] = mapped_column(Text)
