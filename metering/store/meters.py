"""What must stand in PostgreSQL before usage can: a row for each partition and for each meter of the catalog."""

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from metering.catalog import Catalog, Meter
from metering.errors import ConfigurationError
from metering.models import Customer, MeterRow, PartitionRow, Period
from metering.store.state import touch_outdated

FIXED = ("aggregation", "kind", "scale")


def prepare(session: Session, catalog: Catalog, partitions: int) -> None:
    """Make missing rows for partitions and meters, and have changed terms sent to the intake.

    Safe to run again, and by two processes at once.

    Raises:
        ConfigurationError: the number of partitions, or what stored numbers of a meter mean, was changed; or a plan
            is gone that customers have.
    """
    session.execute(
        insert(PartitionRow).values([{"partition": number} for number in range(partitions)]).on_conflict_do_nothing()
    )
    stored = session.scalars(select(PartitionRow.partition)).all()
    if len(stored) != partitions:
        raise ConfigurationError(
            f"METERING_PARTITIONS is {partitions}, but this database was made with {len(stored)}; it cannot be changed"
        )
    _sync_meters(session, catalog)
    _check_plans(session, catalog)
    touch_outdated(session, catalog)


def meter_ids(session: Session) -> dict[str, int]:
    """The id of each meter by its key."""
    return {row.key: row.id for row in session.execute(select(MeterRow.key, MeterRow.id))}


def _sync_meters(session: Session, catalog: Catalog) -> None:
    session.execute(
        insert(MeterRow)
        .values([_values(meter) for _, meter in sorted(catalog.meters.items())])
        .on_conflict_do_nothing()
    )
    for row in session.scalars(select(MeterRow)):
        meter = catalog.meters.get(row.key)
        if meter is None:
            continue
        for name in FIXED:
            if getattr(row, name) != getattr(meter, name):
                raise ConfigurationError(
                    f"meters.{row.key}.{name}: is {getattr(meter, name)!r} in the catalog, but usage was stored with "
                    f"{getattr(row, name)!r}; make a new meter instead"
                )
        row.definition = meter.model_dump(mode="json")


def _check_plans(session: Session, catalog: Catalog) -> None:
    """Without its plan a customer's state could not be sent, nor could that of those after it."""
    open_periods = select(Period.plan).where(Period.closed_at.is_(None))
    used = set(session.scalars(select(Customer.plan).union(open_periods)))
    gone = sorted(used - catalog.plans.keys())
    if gone:
        raise ConfigurationError(f"plans.{gone[0]}: is not in the catalog, but customers have it; put it back")


def _values(meter: Meter) -> dict[str, object]:
    return {
        "key": meter.key,
        "aggregation": meter.aggregation,
        "kind": meter.kind,
        "scale": meter.scale,
        "definition": meter.model_dump(mode="json"),
    }
