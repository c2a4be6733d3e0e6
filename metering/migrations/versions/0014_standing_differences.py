"""Differences from Stripe stand until their customer and period are compared again; periods are found by their end."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("reconciled_differences", sa.Column("replaced_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("""
        UPDATE reconciled_differences SET replaced_at = now()
        WHERE reconciliation_id IS DISTINCT FROM (
            SELECT id FROM reconciliations WHERE kind = 'daily' AND finished_at IS NOT NULL
            ORDER BY started_at DESC LIMIT 1
        )
    """)
    op.create_index(
        "ix_reconciled_differences_standing",
        "reconciled_differences",
        ["customer"],
        postgresql_where=sa.text("replaced_at IS NULL"),
    )
    op.create_index("ix_periods_ends_at", "periods", ["ends_at"])


def downgrade() -> None:
    op.drop_index("ix_periods_ends_at", "periods")
    op.drop_index("ix_reconciled_differences_standing", "reconciled_differences")
    op.drop_column("reconciled_differences", "replaced_at")
