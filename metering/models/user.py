"""People who log in, and which customers they belong to in which role."""

from hashlib import sha256

from sqlalchemy import Boolean, CheckConstraint, ForeignKey, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from metering.extensions import Model
from metering.models.columns import CreatedAt, CustomerId, Name, RowId
from metering.models.customer import Customer

ROLES = ("owner", "admin", "member", "viewer")


class User(Model):
    """`operator` marks the team that runs the product. Flask-Login's interface stands in `accounts`."""

    __tablename__ = "users"
    __table_args__ = (CheckConstraint("email = lower(email)", name="email_is_lower_case"),)

    id: Mapped[RowId]
    email: Mapped[str] = mapped_column(Text, unique=True)
    name: Mapped[Name] = mapped_column(server_default="")
    password_hash: Mapped[str] = mapped_column(Text)
    operator: Mapped[bool] = mapped_column(Boolean, server_default="false")
    created_at: Mapped[CreatedAt]
    memberships: Mapped[list["Membership"]] = relationship(back_populates="user", order_by="Membership.id")

    session_id = 0
    """Of the session by which this user came in, in this very process; no column."""
    is_active = True
    is_authenticated = True
    is_anonymous = False

    def get_id(self) -> str:
        """What the cookie holds: it ends with its session, and with the password that session was opened with."""
        return f"{self.id}.{self.password_mark}.{self.session_id}"

    @property
    def password_mark(self) -> str:
        return sha256(self.password_hash.encode()).hexdigest()[:16]


class Membership(Model):
    __tablename__ = "memberships"
    __table_args__ = (
        UniqueConstraint("user_id", "customer_id"),
        CheckConstraint("role IN ('owner', 'admin', 'member', 'viewer')", name="role"),
    )

    id: Mapped[RowId]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    customer_id: Mapped[CustomerId] = mapped_column(index=True)
    role: Mapped[str] = mapped_column(Text)
    created_at: Mapped[CreatedAt]
    user: Mapped[User] = relationship(back_populates="memberships")
    customer: Mapped[Customer] = relationship()
