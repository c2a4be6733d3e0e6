"""Corrections and doubts of the Stripe ledger, keys that Stripe refuses, and what reconciliations found."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

STATES = "'pending', 'cancelling', 'doubtful', 'accepted', 'observed', 'parked', 'written_off', 'withdrawn'"
WAITING = sa.text("state IN ('pending', 'cancelling', 'doubtful')")


def upgrade() -> None:
    op.add_column("stripe_reports", sa.Column("last_sent_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("stripe_reports", sa.Column("cancel_sent_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE stripe_reports SET last_sent_at = next_try_at WHERE first_sent_at IS NOT NULL")
    op.drop_constraint(op.f("ck_stripe_reports_state"), "stripe_reports")
    op.create_check_constraint(op.f("ck_stripe_reports_state"), "stripe_reports", f"state IN ({STATES})")
    op.drop_index("ix_stripe_reports_pending", "stripe_reports")
    op.create_index(
        "ix_stripe_reports_waiting",
        "stripe_reports",
        ["account", "customer_id", "meter_id", "id"],
        postgresql_where=WAITING,
    )
    op.create_index(
        "ix_stripe_reports_timestamp", "stripe_reports", ["account", "meter_id", "stripe_customer_id", "timestamp"]
    )
    op.create_table(
        "stripe_stops",
        sa.Column("key_digest", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key_digest", name=op.f("pk_stripe_stops")),
    )
    op.create_table(
        "reconciliations",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("done_until", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("ended_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("compared", sa.Integer(), nullable=False, server_default="0"),
        sa.CheckConstraint("kind IN ('daily', 'closing', 'asked')", name=op.f("ck_reconciliations_kind")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reconciliations")),
    )
    op.create_index("ix_reconciliations_account", "reconciliations", ["account", "kind", "started_at"])
    op.create_table(
        "reconciled_differences",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("reconciliation_id", sa.BigInteger(), nullable=False),
        sa.Column("customer", sa.Text(), nullable=False),
        sa.Column("meter", sa.Text(), nullable=False),
        sa.Column("period_starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used", sa.Numeric(30, 0), nullable=False),
        sa.Column("reported", sa.Numeric(30, 0), nullable=False),
        sa.Column("at_stripe", sa.Numeric(), nullable=True),
        sa.Column("estimated", sa.Numeric(), nullable=True),
        sa.Column("invoiced", sa.Numeric(), nullable=True),
        sa.Column("causes", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("done", sa.Text(), nullable=False),
        sa.Column("needs_operator", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reconciled_differences")),
        sa.ForeignKeyConstraint(
            ["reconciliation_id"],
            ["reconciliations.id"],
            name=op.f("fk_reconciled_differences_reconciliation_id_reconciliations"),
            ondelete="CASCADE",
        ),
    )
    op.create_index(
        op.f("ix_reconciled_differences_reconciliation_id"), "reconciled_differences", ["reconciliation_id"]
    )


def downgrade() -> None:
    op.drop_table("reconciled_differences")
    op.drop_table("reconciliations")
    op.drop_table("stripe_stops")
    op.drop_index("ix_stripe_reports_timestamp", "stripe_reports")
    op.drop_index("ix_stripe_reports_waiting", "stripe_reports")
    op.create_index(
        "ix_stripe_reports_pending",
        "stripe_reports",
        ["account", "customer_id", "meter_id", "id"],
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.drop_constraint(op.f("ck_stripe_reports_state"), "stripe_reports")
    op.create_check_constraint(
        op.f("ck_stripe_reports_state"), "stripe_reports", "state IN ('pending', 'accepted', 'parked', 'written_off')"
    )
    op.drop_column("stripe_reports", "cancel_sent_at")
    op.drop_column("stripe_reports", "last_sent_at")
