"""What is sold, as it stands at Stripe: products, prices, and the unit that each meter counts in there."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # What was reported so far was reported in scaled units.
    op.add_column("stripe_meters", sa.Column("unit", sa.Numeric(), server_default="1", nullable=False))
    op.create_check_constraint(op.f("ck_stripe_meters_unit_is_positive"), "stripe_meters", "unit > 0")
    op.create_table(
        "stripe_products",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("stripe_id", sa.Text(), nullable=False),
        sa.Column("made_from", postgresql.JSONB(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("account", "stripe_id", name=op.f("pk_stripe_products")),
    )
    op.create_table(
        "stripe_prices",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("stripe_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("plans", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("meter", sa.Text(), nullable=True),
        sa.Column("made_from", postgresql.JSONB(), nullable=False),
        sa.Column("current", sa.Boolean(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("account", "stripe_id", name=op.f("pk_stripe_prices")),
    )
    op.create_index(
        "uq_stripe_prices_current",
        "stripe_prices",
        ["account", "key"],
        unique=True,
        postgresql_where=sa.text("current"),
    )


def downgrade() -> None:
    op.drop_table("stripe_prices")
    op.drop_table("stripe_products")
    op.drop_column("stripe_meters", "unit")
