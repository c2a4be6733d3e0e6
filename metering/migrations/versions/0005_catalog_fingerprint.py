"""With which catalog a customer's state was last sent to Redis, so that a changed one is noticed and sent."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("customers", sa.Column("sent_terms", sa.Text(), nullable=True))
