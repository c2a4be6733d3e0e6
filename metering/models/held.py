"""Events that name a customer or a type nobody knows yet, kept until somebody does (METERING_UNKNOWN_SUBJECT=hold)."""

from uuid import UUID

from sqlalchemy import BigInteger, Text, UniqueConstraint, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from metering.extensions import Model
from metering.models.columns import Instant, KeyText, RowId


class HeldEvent(Model):
    """`digest` is the event's identity, so that it is kept once however often it is sent; `payload` what it says.

    `event` is JSON as text, so that its numbers keep every digit: [id, source, time in microseconds or null, data].
    """

    __tablename__ = "held_events"
    __table_args__ = (UniqueConstraint("digest"),)

    id: Mapped[RowId]
    digest: Mapped[UUID] = mapped_column(Uuid)
    payload: Mapped[UUID] = mapped_column(Uuid)
    subject: Mapped[KeyText] = mapped_column(index=True)
    type: Mapped[KeyText] = mapped_column(index=True)
    event: Mapped[str] = mapped_column(Text)
    key_id: Mapped[int | None] = mapped_column(BigInteger)
    received_at: Mapped[Instant]
