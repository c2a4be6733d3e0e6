"""The schema: brought up to date by Alembic, and the monthly partitions of `events` made ahead of time."""

from datetime import UTC, datetime
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, text

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
SCHEMA_LOCK = 0x6D657465  # two processes that start at once must not migrate at once


def upgrade(engine: Engine) -> None:
    """Bring the schema up to date; does nothing when it is."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": SCHEMA_LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def create_event_months(connection: Connection, now: datetime, *, ahead: int = 2) -> list[str]:
    """Make the partitions of `events` from last month to `ahead` months from now; the names of those made.

    Rows that meanwhile fell into the default partition move along, so none is ever in the way.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": SCHEMA_LOCK})
    existing = set(connection.scalars(text("SELECT inhrelid::regclass::text FROM pg_inherits")))
    first = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    months = [_add_months(first, offset) for offset in range(-1, ahead + 1)]
    missing = [month for month in months if _partition_name(month) not in existing]
    for month in missing:
        _create_month(connection, month)
    return [_partition_name(month) for month in missing]


def _create_month(connection: Connection, month: datetime) -> None:
    name, bounds = _partition_name(month), {"start": month, "end": _add_months(month, 1)}
    connection.execute(text(f"CREATE TABLE {name} (LIKE events INCLUDING ALL)"))
    connection.execute(
        text(f"""
            WITH moved AS (DELETE FROM events_default WHERE time >= :start AND time < :end RETURNING *)
            INSERT INTO {name} SELECT * FROM moved
        """),  # noqa: S608 - the name is made of a date
        bounds,
    )
    connection.execute(
        text(f"ALTER TABLE events ATTACH PARTITION {name} FOR VALUES FROM ('{bounds['start']}') TO ('{bounds['end']}')")
    )


def _partition_name(month: datetime) -> str:
    return f"events_{month:%Y_%m}"


def _add_months(month: datetime, count: int) -> datetime:
    index = month.year * 12 + month.month - 1 + count
    return month.replace(year=index // 12, month=index % 12 + 1)
