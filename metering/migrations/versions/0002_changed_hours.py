"""Note the hours that the Stripe ledger must look at again

In the transaction of the change, whoever makes it. A note is locked even where it stands already: the ledger, which
removes it before it reads, then can't miss a change that commits later. Meters of kind "level" owe by their accruals,
so their rollups are passed over.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE FUNCTION note_changed_hours() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO stripe_changes AS c (account, customer_id, meter_id, period_id, hour)
            SELECT DISTINCT s.account, n.customer_id, n.meter_id, n.period_id, n.hour
            FROM changed n
            JOIN stripe_meters s ON s.meter_id = n.meter_id
            JOIN meters m ON m.id = n.meter_id AND (m.kind = 'level') = (TG_TABLE_NAME = 'accruals')
            ORDER BY s.account, n.customer_id, n.meter_id, n.period_id, n.hour
            ON CONFLICT (account, customer_id, meter_id, period_id, hour) DO UPDATE SET hour = c.hour WHERE FALSE;
            RETURN NULL;
        END $$
    """)
    for table in ("rollups", "accruals"):
        for event in ("INSERT", "UPDATE"):
            op.execute(
                f"CREATE TRIGGER note_changed_hours_{event.lower()} AFTER {event} ON {table} "
                "REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_changed_hours()"
            )


def downgrade() -> None:
    for table in ("rollups", "accruals"):
        for event in ("insert", "update"):
            op.execute(f"DROP TRIGGER note_changed_hours_{event} ON {table}")
    op.execute("DROP FUNCTION note_changed_hours()")
