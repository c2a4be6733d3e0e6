"""Management: keys that expire, alert thresholds of a customer, meters made at run time"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("api_keys", sa.Column("state_version", sa.Integer(), server_default="1", nullable=False))
    # What Redis was told of a key until now: version 1 when it was made, 2 when it was revoked.
    op.execute("UPDATE api_keys SET state_version = 2 WHERE revoked_at IS NOT NULL")
    op.create_index("ix_api_keys_unsent", "api_keys", ["id"], postgresql_where=sa.text("sent_version < state_version"))
    op.add_column("customers", sa.Column("alert_percents", postgresql.ARRAY(sa.Integer()), nullable=True))
    op.add_column("meters", sa.Column("origin", sa.Text(), server_default="catalog", nullable=False))
    op.create_check_constraint(op.f("ck_meters_origin"), "meters", "origin IN ('catalog', 'api')")
    op.add_column(
        "meters",
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
    )
    op.execute("UPDATE meters SET updated_at = created_at")


def downgrade() -> None:
    op.drop_column("meters", "updated_at")
    op.drop_constraint(op.f("ck_meters_origin"), "meters", type_="check")
    op.drop_column("meters", "origin")
    op.drop_column("customers", "alert_percents")
    op.drop_index("ix_api_keys_unsent", "api_keys")
    op.drop_column("api_keys", "state_version")
    op.drop_column("api_keys", "expires_at")
