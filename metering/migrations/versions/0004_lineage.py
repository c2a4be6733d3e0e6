"""Which run of Redis a partition's counters and stream belong to."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("partitions", sa.Column("redis_run", sa.Text(), nullable=True))
