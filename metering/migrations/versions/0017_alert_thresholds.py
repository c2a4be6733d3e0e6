"""A customer's own alert thresholds: of meters and of money; what tells of an alert knows which."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

OLD_KEY = "uq_alerts_customer_id_period_id_meter_id_percent_limit_units"
KINDS = "kind IN ('percent', 'quantity', 'money')"
ALERT_CHECKS = {
    "kind": KINDS,
    "money_has_no_meter": "(kind = 'money') = (meter_id IS NULL)",
    "units": "(kind = 'money') = (units IS NULL)",
    "limit_of_percent": "(kind = 'percent') = (limit_units IS NOT NULL)",
    "total_of_money": "(kind = 'money') = (total IS NOT NULL AND currency IS NOT NULL)",
}


def upgrade() -> None:
    op.create_table(
        "alert_thresholds",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("meter_id", sa.BigInteger(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("value", sa.Numeric(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(KINDS, name=op.f("ck_alert_thresholds_kind")),
        sa.CheckConstraint(
            "(kind = 'money') = (meter_id IS NULL)", name=op.f("ck_alert_thresholds_money_has_no_meter")
        ),
        sa.CheckConstraint("value > 0", name=op.f("ck_alert_thresholds_positive")),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_alert_thresholds_customer_id")),
        sa.ForeignKeyConstraint(["meter_id"], ["meters.id"], name=op.f("fk_alert_thresholds_meter_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_thresholds")),
        sa.UniqueConstraint(
            *("customer_id", "meter_id", "kind", "value"),
            name=op.f("uq_alert_thresholds_customer_id_meter_id_kind_value"),
            postgresql_nulls_not_distinct=True,
        ),
    )
    op.drop_constraint(OLD_KEY, "alerts")
    op.add_column("alerts", sa.Column("kind", sa.Text(), server_default="percent", nullable=False))
    op.alter_column("alerts", "percent", new_column_name="value", type_=sa.Numeric())
    for column in ("meter_id", "units", "limit_units"):
        op.alter_column("alerts", column, nullable=True)
    op.alter_column("alerts", "units", type_=sa.Numeric(30, 0))
    op.add_column("alerts", sa.Column("total", sa.Numeric(), nullable=True))
    op.add_column("alerts", sa.Column("currency", sa.Text(), nullable=True))
    for name, condition in ALERT_CHECKS.items():
        op.create_check_constraint(op.f(f"ck_alerts_{name}"), "alerts", condition)
    op.create_unique_constraint(
        op.f("uq_alerts_customer_id_period_id_meter_id_kind_value_limit_units"),
        "alerts",
        ["customer_id", "period_id", "meter_id", "kind", "value", "limit_units"],
        postgresql_nulls_not_distinct=True,
    )
    op.create_table(
        "mailed_alerts",
        sa.Column("alert_id", sa.BigInteger(), nullable=False),
        sa.Column("mail_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["alert_id"], ["alerts.id"], name=op.f("fk_mailed_alerts_alert_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["mail_id"], ["mails.id"], name=op.f("fk_mailed_alerts_mail_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("alert_id", "mail_id", name=op.f("pk_mailed_alerts")),
    )
    op.create_index("ix_mailed_alerts_mail_id", "mailed_alerts", ["mail_id"])
    op.add_column("webhook_deliveries", sa.Column("alert_id", sa.BigInteger(), nullable=True))
    op.create_foreign_key(
        op.f("fk_webhook_deliveries_alert_id"),
        *("webhook_deliveries", "alerts", ["alert_id"], ["id"]),
        ondelete="SET NULL",
    )
    op.create_index(op.f("ix_webhook_deliveries_alert_id"), "webhook_deliveries", ["alert_id"])


def downgrade() -> None:
    op.drop_column("webhook_deliveries", "alert_id")
    op.drop_table("mailed_alerts")
    op.execute("DELETE FROM alerts WHERE kind <> 'percent'")
    op.drop_constraint(op.f("uq_alerts_customer_id_period_id_meter_id_kind_value_limit_units"), "alerts")
    for name in ALERT_CHECKS:
        op.drop_constraint(op.f(f"ck_alerts_{name}"), "alerts")
    for column in ("currency", "total", "kind"):
        op.drop_column("alerts", column)
    for column in ("meter_id", "units", "limit_units"):
        op.alter_column("alerts", column, nullable=False)
    op.alter_column("alerts", "units", type_=sa.BigInteger())
    op.alter_column("alerts", "value", new_column_name="percent", type_=sa.Integer())
    op.create_unique_constraint(OLD_KEY, "alerts", ["customer_id", "period_id", "meter_id", "percent", "limit_units"])
    op.drop_table("alert_thresholds")
