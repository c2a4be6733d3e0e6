"""Runs of `verify`: who asked, how far it came, and what each check found."""

from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, DateTime, Integer, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from metering.extensions import Model
from metering.models.columns import Instant, RowId


class Verification(Model):
    """`checks` is as `verify --json` prints them, with `seconds`, in the order in which they were made; all of them
    once `finished_at` is set. `fault` says why a run came to no end.
    """

    __tablename__ = "verifications"

    id: Mapped[RowId]
    asked_by: Mapped[str] = mapped_column(Text)
    asked_at: Mapped[Instant]
    started_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    total: Mapped[int] = mapped_column(Integer)
    checks: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    holds: Mapped[bool | None] = mapped_column(Boolean)
    fault: Mapped[str | None] = mapped_column(Text)
