"""Sessions: a browser that somebody logged in with. The cookie names one of these rows."""

from datetime import datetime

from sqlalchemy import BigInteger, DateTime, ForeignKey, Text
from sqlalchemy.orm import Mapped, mapped_column

from metering.extensions import Model
from metering.models.columns import Instant, RowId


class UserSession(Model):
    """`address` and `user_agent` are those of the login; `last_seen_at` may lie a minute back."""

    __tablename__ = "user_sessions"

    id: Mapped[RowId]
    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id"), index=True)
    address: Mapped[str] = mapped_column(Text)
    user_agent: Mapped[str] = mapped_column(Text)
    created_at: Mapped[Instant]
    last_seen_at: Mapped[Instant]
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
