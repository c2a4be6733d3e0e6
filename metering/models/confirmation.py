"""What waits for somebody to open a link in an e-mail. Of the link nothing but the SHA-256 of its token is kept."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from metering.extensions import Model
from metering.models.columns import CreatedAt, CustomerId, Instant, Name, RowId


class SignUp(Model):
    """Who wants an account. The user is made when the address is confirmed; `customer_id` is that of the customer that
    was made for it.
    """

    __tablename__ = "sign_ups"

    id: Mapped[RowId]
    email: Mapped[str] = mapped_column(Text)
    name: Mapped[Name]
    organization: Mapped[Name]
    password_hash: Mapped[str] = mapped_column(Text)
    digest: Mapped[str] = mapped_column(Text, unique=True)
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[Instant]
    customer_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("customers.id"))
    used_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class PasswordReset(Model):
    """A wish for a new password, whoever's address that is; a job finds the user and gives it a digest.

    `base_url`: where the pages are, as seen from outside.
    """

    __tablename__ = "password_resets"
    __table_args__ = (Index("ix_password_resets_waiting", "id", postgresql_where=text("handled_at IS NULL")),)

    id: Mapped[RowId]
    email: Mapped[str] = mapped_column(Text)
    base_url: Mapped[str] = mapped_column(Text)
    created_at: Mapped[CreatedAt]
    handled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    user_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("users.id"), index=True)
    digest: Mapped[str | None] = mapped_column(Text, unique=True)
    expires_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    used_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class EmailChange(Model):
    """The address that a user wants to have instead."""

    __tablename__ = "email_changes"

    id: Mapped[RowId]
    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id"), index=True)
    email: Mapped[str] = mapped_column(Text)
    digest: Mapped[str] = mapped_column(Text, unique=True)
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[Instant]
    used_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class Invitation(Model):
    """`invited_by`: the e-mail address of who asked. One is open for an address and a customer at a time."""

    __tablename__ = "invitations"
    __table_args__ = (
        CheckConstraint("role IN ('owner', 'admin', 'member', 'viewer')", name="role"),
        Index(
            "uq_invitations_open",
            "customer_id",
            "email",
            unique=True,
            postgresql_where=text("accepted_at IS NULL AND withdrawn_at IS NULL"),
        ),
    )

    id: Mapped[RowId]
    customer_id: Mapped[CustomerId]
    email: Mapped[str] = mapped_column(Text)
    role: Mapped[str] = mapped_column(Text)
    invited_by: Mapped[str] = mapped_column(Text)
    digest: Mapped[str] = mapped_column(Text, unique=True)
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[Instant]
    accepted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    withdrawn_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
