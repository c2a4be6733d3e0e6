"""Reading stored usage: the event list, of a customer and over all, and the place of a rollup's latest value

Lists are in the order of (time, digest), and so are the indexes: events of one instant need not be sorted. The one
over all customers holds every row; its condition keeps it from queries that do not state it. For a customer's list the
planner took it now and then, and walked past everybody else's events.

Of two values of one instant the later place is the latest, whichever was stored first. Without it in the rollup a
correction, or a message that was set aside and replayed, could become the latest although it came first.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_events_time_digest", "events", ["time", "digest"], postgresql_where=sa.text("customer_id > 0"))
    op.create_index(
        "ix_events_customer_id_meter_id_time_digest", "events", ["customer_id", "meter_id", "time", "digest"]
    )
    op.drop_index("ix_events_customer_id_meter_id_time", "events")
    op.add_column("rollups", sa.Column("latest_position", sa.BigInteger(), nullable=True))
    op.add_column("rollups", sa.Column("latest_item", sa.SmallInteger(), nullable=True))
    op.execute("""
        UPDATE rollups r
        SET latest = e.units, latest_at = e.time, latest_position = e.position, latest_item = e.item
        FROM (
            SELECT DISTINCT ON (customer_id, meter_id, period_id, hour, grp)
                customer_id, meter_id, period_id, date_trunc('hour', time, 'UTC') AS hour, grp, units, time, position,
                item
            FROM events
            WHERE op IN ('observe', 'set') AND voided_at IS NULL
            ORDER BY customer_id, meter_id, period_id, hour, grp, time DESC, position DESC, item DESC
        ) AS e
        WHERE (r.customer_id, r.meter_id, r.period_id, r.hour, r.grp)
            = (e.customer_id, e.meter_id, e.period_id, e.hour, e.grp)
    """)


def downgrade() -> None:
    op.drop_column("rollups", "latest_item")
    op.drop_column("rollups", "latest_position")
    op.create_index("ix_events_customer_id_meter_id_time", "events", ["customer_id", "meter_id", "time"])
    op.drop_index("ix_events_customer_id_meter_id_time_digest", "events")
    op.drop_index("ix_events_time_digest", "events")
