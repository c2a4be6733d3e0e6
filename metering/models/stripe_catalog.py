"""What is sold, as it stands at Stripe: its ids for products and prices, per account and mode."""

from typing import Any

from sqlalchemy import Boolean, Index, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from metering.extensions import Model
from metering.models.columns import CreatedAt


class StripeProduct(Model):
    """A product of a plan, which its base fee belongs to, or of a meter, which all prices of that meter belong to."""

    __tablename__ = "stripe_products"

    account: Mapped[str] = mapped_column(Text, primary_key=True)
    stripe_id: Mapped[str] = mapped_column(Text, primary_key=True)
    made_from: Mapped[dict[str, Any]] = mapped_column(JSONB)
    active: Mapped[bool] = mapped_column(Boolean)
    created_at: Mapped[CreatedAt]


class StripePrice(Model):
    """A price that is sold, or was: old subscriptions keep theirs. `made_from` is all that can never change of it.

    `key` is its lookup key, which the `current` price of that key has. `plans` consist of it; a base fee has no `meter`
    and is that of its only plan. `active` is what Stripe was last told.
    """

    __tablename__ = "stripe_prices"
    __table_args__ = (
        Index("uq_stripe_prices_current", "account", "key", unique=True, postgresql_where=text("current")),
    )

    account: Mapped[str] = mapped_column(Text, primary_key=True)
    stripe_id: Mapped[str] = mapped_column(Text, primary_key=True)
    key: Mapped[str] = mapped_column(Text)
    plans: Mapped[list[str]] = mapped_column(ARRAY(Text))
    meter: Mapped[str | None] = mapped_column(Text)
    made_from: Mapped[dict[str, Any]] = mapped_column(JSONB)
    current: Mapped[bool] = mapped_column(Boolean)
    active: Mapped[bool] = mapped_column(Boolean)
    created_at: Mapped[CreatedAt]
