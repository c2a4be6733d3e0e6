"""Events and their identities.

An identity is permanent and therefore in a table of its own: a unique index on the monthly `events` would have to
hold the month. Both tables refer to the place of the usage in its partition's stream: `position` (generation and
sequence in one number) and `item` (the place within the entry).
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, CheckConstraint, DateTime, Index, SmallInteger, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from metering.extensions import Model
from metering.models.columns import CustomerFact, Instant, KeyText, MeterFact, PeriodFact, Units


class Identity(Model):
    """`digest` of (customer, source, id), and `payload`, the digest of what the event says."""

    __tablename__ = "identities"
    __table_args__ = ({"postgresql_partition_by": "HASH (digest)"},)

    digest: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    payload: Mapped[UUID] = mapped_column(Uuid)
    position: Mapped[int] = mapped_column(BigInteger)
    item: Mapped[int] = mapped_column(SmallInteger)


class Event(Model):
    """One fact of usage. `op`: `add` to a total, `change` or `set` a level, `observe` a value.

    `time` is when it happened, `counted_at` from when it counts: a late one, whose own period is closed, changes its
    level from the start of the period it counts in, so that what was billed stays as it was.
    """

    __tablename__ = "events"
    __table_args__ = (
        CheckConstraint("op IN ('add', 'change', 'set', 'observe')", name="op"),
        # With the digest, lists come out of these two in their very order, a step for each row.
        Index("ix_events_customer_id_meter_id_time_digest", "customer_id", "meter_id", "time", "digest"),
        # All rows are in it. The condition keeps it from queries that do not state it: those of one customer, for whom
        # the planner would walk past everybody else's events.
        Index("ix_events_time_digest", "time", "digest", postgresql_where=text("customer_id > 0")),
        Index(
            "ix_events_levels",
            "customer_id",
            "meter_id",
            "counted_at",
            postgresql_where=text("op IN ('change', 'set')"),
        ),
        {"postgresql_partition_by": "RANGE (time)"},
    )

    digest: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    time: Mapped[Instant] = mapped_column(primary_key=True)
    counted_at: Mapped[Instant]
    customer_id: Mapped[CustomerFact]
    meter_id: Mapped[MeterFact]
    period_id: Mapped[PeriodFact]
    op: Mapped[str] = mapped_column(Text)
    units: Mapped[Units]
    source: Mapped[str] = mapped_column(Text)
    event_id: Mapped[str] = mapped_column(Text)
    key_id: Mapped[int | None] = mapped_column(BigInteger)
    grp: Mapped[KeyText]
    properties: Mapped[dict[str, Any]] = mapped_column(JSONB)
    recorded_at: Mapped[Instant]
    position: Mapped[int] = mapped_column(BigInteger)
    item: Mapped[int] = mapped_column(SmallInteger)
    late: Mapped[bool] = mapped_column(Boolean)
    overshoot: Mapped[bool] = mapped_column(Boolean)
    voided_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
