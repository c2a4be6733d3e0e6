"""Events that wait for their customer or meter to be made."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "held_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("digest", sa.Uuid(), nullable=False),
        sa.Column("payload", sa.Uuid(), nullable=False),
        sa.Column("subject", sa.TEXT(collation="C"), nullable=False),
        sa.Column("type", sa.TEXT(collation="C"), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("key_id", sa.BigInteger(), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_held_events")),
        sa.UniqueConstraint("digest", name=op.f("uq_held_events_digest")),
    )
    op.create_index(op.f("ix_held_events_subject"), "held_events", ["subject"])
    op.create_index(op.f("ix_held_events_type"), "held_events", ["type"])


def downgrade() -> None:
    op.drop_table("held_events")
