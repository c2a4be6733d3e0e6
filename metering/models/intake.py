"""What the drain and the intake keep in PostgreSQL: offsets, corrections, messages set aside, the inbox."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Index, Integer, LargeBinary, SmallInteger, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from metering.extensions import Model
from metering.models.columns import CreatedAt, KeyText, RowId, Units


class PartitionRow(Model):
    """One per partition: its generation, and `sequence`, the last entry of its stream that is in PostgreSQL.

    `redis_run` is the run of Redis that both belong to: another one may have started from an older copy.
    """

    __tablename__ = "partitions"

    partition: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    generation: Mapped[int] = mapped_column(Integer, server_default="0")
    sequence: Mapped[int] = mapped_column(BigInteger, server_default="0")
    redis_run: Mapped[str | None] = mapped_column(Text)
    drained_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class Correction(Model):
    """What a live counter must still be changed by: applied in Redis in the order of `id`, then deleted here."""

    __tablename__ = "corrections"
    __table_args__ = (Index("ix_corrections_partition_id", "partition", "id"),)

    id: Mapped[RowId]
    partition: Mapped[int] = mapped_column(SmallInteger)
    customer: Mapped[KeyText]
    meter: Mapped[KeyText]
    period_id: Mapped[int | None] = mapped_column(BigInteger)
    units: Mapped[Units]
    created_at: Mapped[CreatedAt]


class SetAside(Model):
    """A message that could not become an event, kept whole with the reason until somebody decides."""

    __tablename__ = "set_aside"
    __table_args__ = (Index("ix_set_aside_open", "id", postgresql_where=text("resolved_at IS NULL")),)

    id: Mapped[RowId]
    partition: Mapped[int] = mapped_column(SmallInteger)
    position: Mapped[int] = mapped_column(BigInteger)
    item: Mapped[int] = mapped_column(SmallInteger)
    customer: Mapped[str | None] = mapped_column(Text)
    decision: Mapped[str] = mapped_column(Text)
    message: Mapped[bytes] = mapped_column(LargeBinary)
    reason: Mapped[str] = mapped_column(Text)
    detail: Mapped[str] = mapped_column(Text)
    created_at: Mapped[CreatedAt]
    resolved_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    resolution: Mapped[str | None] = mapped_column(Text)


class Inbox(Model):
    """Usage that could not go through Redis when it happened; a job feeds it through the same script later."""

    __tablename__ = "inbox"

    id: Mapped[RowId]
    partition: Mapped[int] = mapped_column(SmallInteger)
    message: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[CreatedAt]
    fault: Mapped[str | None] = mapped_column(Text)


class AuditEntry(Model):
    """Who did what to whom, and why."""

    __tablename__ = "audit_log"
    __table_args__ = (
        Index("ix_audit_log_at", "at", "id"),
        Index("ix_audit_log_actor", "actor", "at", "id"),
        Index("ix_audit_log_action", "action", "at", "id"),
        Index("ix_audit_log_customer", "customer_id", "at", "id"),
    )

    id: Mapped[RowId]
    at: Mapped[CreatedAt]
    actor: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(Text)
    customer_id: Mapped[int | None] = mapped_column(BigInteger)
    detail: Mapped[dict[str, Any]] = mapped_column(JSONB)
