"""API keys: the SHA-256 of a random secret, with the prefix that people recognise it by."""

from datetime import datetime

from sqlalchemy import CheckConstraint, DateTime, Index, Integer, SmallInteger, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from metering.extensions import Model
from metering.models.columns import CreatedAt, CustomerId, Name, RowId


class ApiKey(Model):
    """A key of a customer, or of the operators (`customer_id` is null), who may act for any customer.

    It works until it is revoked, or until `expires_at` where that is set. What Redis is told of it is sent whenever
    `state_version` has risen. `created_by` is written as in the audit log: "user:EMAIL", "key:ID", "cli:ACCOUNT".
    """

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint("length(digest) = 64", name="digest_is_sha256"),
        Index("ix_api_keys_unsent", "id", postgresql_where=text("sent_version < state_version")),
    )

    id: Mapped[RowId]
    customer_id: Mapped[CustomerId | None] = mapped_column(index=True)
    name: Mapped[Name]
    prefix: Mapped[str] = mapped_column(Text)
    digest: Mapped[str] = mapped_column(Text, unique=True)
    partition: Mapped[int] = mapped_column(SmallInteger)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[CreatedAt]
    created_by: Mapped[str | None] = mapped_column(Text)
    last_used_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    state_version: Mapped[int] = mapped_column(Integer, server_default="1")
    sent_version: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    expires_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    revoked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
