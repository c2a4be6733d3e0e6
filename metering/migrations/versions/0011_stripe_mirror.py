"""What Stripe told us: events, subscriptions and invoices, and periods in a subscription's rhythm."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def _moment(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _text(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _id() -> sa.Column:
    return sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False)


def _created_at() -> sa.Column:
    return sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)


def upgrade() -> None:
    op.add_column("periods", _moment("anchor", nullable=True))
    op.add_column("periods", _text("cycle", nullable=True))
    op.create_check_constraint(op.f("ck_periods_rhythm_is_whole"), "periods", "(anchor IS NULL) = (cycle IS NULL)")
    op.create_table(
        "stripe_events",
        _id(),
        _text("event_id"),
        _text("mode"),
        sa.Column("livemode", sa.Boolean(), nullable=False),
        _text("type"),
        sa.Column("thin", sa.Boolean(), nullable=False),
        _text("object_id", nullable=True),
        _moment("happened_at"),
        _moment("received_at"),
        _text("state"),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        _moment("next_try_at"),
        _moment("settled_at", nullable=True),
        _text("reason", nullable=True),
        sa.CheckConstraint(
            "state IN ('waiting', 'processed', 'ignored', 'failed')", name=op.f("ck_stripe_events_state")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stripe_events")),
        sa.UniqueConstraint("event_id", name=op.f("uq_stripe_events_event_id")),
    )
    op.create_index(
        "ix_stripe_events_waiting", "stripe_events", ["next_try_at"], postgresql_where=sa.text("state = 'waiting'")
    )
    op.create_index("ix_stripe_events_received_at", "stripe_events", ["received_at"])
    op.create_table(
        "stripe_subscriptions",
        _id(),
        _text("account"),
        _text("stripe_id"),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        _text("status"),
        _text("plan", nullable=True),
        sa.Column("price_ids", ARRAY(sa.Text()), nullable=False),
        _moment("starts_at"),
        _moment("ended_at", nullable=True),
        _moment("cancels_at", nullable=True),
        _moment("period_starts_at"),
        _moment("period_ends_at"),
        _moment("anchor"),
        _text("cycle"),
        sa.Column("collection_paused", sa.Boolean(), server_default="false", nullable=False),
        _moment("fetched_at"),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_stripe_subscriptions_customer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stripe_subscriptions")),
        sa.UniqueConstraint("account", "stripe_id", name=op.f("uq_stripe_subscriptions_account_stripe_id")),
    )
    op.create_index(
        "ix_stripe_subscriptions_customer_id", "stripe_subscriptions", ["customer_id", "account", "starts_at"]
    )
    op.create_table(
        "invoices",
        _id(),
        _text("account"),
        _text("stripe_id"),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        _text("number", nullable=True),
        _text("status"),
        _moment("period_starts_at"),
        _moment("period_ends_at"),
        _text("currency"),
        sa.Column("total", sa.Numeric(20, 4), nullable=False),
        sa.Column("amount_due", sa.Numeric(20, 4), nullable=False),
        sa.Column("amount_paid", sa.Numeric(20, 4), nullable=False),
        _text("hosted_url", nullable=True),
        _text("pdf_url", nullable=True),
        _moment("issued_at"),
        _moment("fetched_at"),
        _created_at(),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_invoices_customer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invoices")),
        sa.UniqueConstraint("account", "stripe_id", name=op.f("uq_invoices_account_stripe_id")),
    )
    op.create_index("ix_invoices_customer_id", "invoices", ["customer_id", "issued_at", "id"])


def downgrade() -> None:
    op.drop_table("invoices")
    op.drop_table("stripe_subscriptions")
    op.drop_table("stripe_events")
    op.drop_constraint(op.f("ck_periods_rhythm_is_whole"), "periods")
    op.drop_column("periods", "cycle")
    op.drop_column("periods", "anchor")
