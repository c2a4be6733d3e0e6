"""Files and messages of the sample API"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sample_files",
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.TEXT(collation="C"), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("written_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_sample_files_customer_id")),
        sa.PrimaryKeyConstraint("customer_id", "name", name=op.f("pk_sample_files")),
    )
    op.create_table(
        "sample_messages",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("recipients", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_sample_messages_customer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sample_messages")),
    )
    op.create_index(op.f("ix_sample_messages_customer_id"), "sample_messages", ["customer_id"])


def downgrade() -> None:
    op.drop_table("sample_messages")
    op.drop_table("sample_files")
