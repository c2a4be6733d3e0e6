"""The operators' console: runs of verify, who asked for a comparison, and indexes for what is paged through."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

UNUSUAL = sa.text("state IN ('parked', 'written_off', 'withdrawn', 'observed')")
UNSETTLED = sa.text("state IN ('waiting', 'failed')")


def upgrade() -> None:
    op.create_table(
        "verifications",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("checks", postgresql.JSONB(), nullable=False),
        sa.Column("holds", sa.Boolean(), nullable=True),
        sa.Column("fault", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_verifications")),
    )
    op.add_column("reconciliations", sa.Column("customer", sa.Text(), nullable=True))
    op.add_column("reconciliations", sa.Column("asked_by", sa.Text(), nullable=True))
    op.create_index("ix_audit_log_at", "audit_log", ["at", "id"])
    op.create_index("ix_audit_log_actor", "audit_log", ["actor", "at", "id"])
    op.create_index("ix_audit_log_action", "audit_log", ["action", "at", "id"])
    op.create_index("ix_audit_log_customer", "audit_log", ["customer_id", "at", "id"])
    op.create_index("ix_stripe_reports_hour", "stripe_reports", ["hour", "id"])
    op.create_index("ix_stripe_reports_customer", "stripe_reports", ["customer_id", "hour", "id"])
    op.create_index("ix_stripe_reports_unusual", "stripe_reports", ["state", "hour", "id"], postgresql_where=UNUSUAL)
    op.create_index("ix_stripe_events_unsettled", "stripe_events", ["id"], postgresql_where=UNSETTLED)
    op.create_index("ix_customers_name", "customers", [sa.text("lower(name) text_pattern_ops")])
    op.create_index("ix_customers_stripe_customer_id", "customers", ["stripe_customer_id"])
    op.create_index("ix_users_email_begins", "users", [sa.text("email text_pattern_ops")])


def downgrade() -> None:
    op.drop_index("ix_users_email_begins", "users")
    op.drop_index("ix_customers_stripe_customer_id", "customers")
    op.drop_index("ix_customers_name", "customers")
    op.drop_index("ix_stripe_events_unsettled", "stripe_events")
    for name in ("unusual", "customer", "hour"):
        op.drop_index(f"ix_stripe_reports_{name}", "stripe_reports")
    for name in ("customer", "action", "actor", "at"):
        op.drop_index(f"ix_audit_log_{name}", "audit_log")
    op.drop_column("reconciliations", "asked_by")
    op.drop_column("reconciliations", "customer")
    op.drop_table("verifications")
