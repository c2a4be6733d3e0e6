"""The rows of partitions and meters, which must stand in PostgreSQL before usage can; and the meters that are made and
changed at run time.

Always holds: what gives stored numbers their meaning (aggregation, kind, scale, which events and values are read, by
what they are grouped) never changes once there is usage.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, false, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from metering.catalog import Catalog, Meter
from metering.errors import ConfigurationError, Conflict, UnknownMeter
from metering.models import Customer, MeterRow, PartitionRow, Period, PeriodTotal
from metering.store.state import touch_outdated

KEY = re.compile("[a-z][a-z0-9_]{0,62}")
ID = re.compile("[0-9]{1,18}")
FIXED = ("aggregation", "kind", "scale")

MeterOrder = Literal["key", "name", "aggregation", "createdAt", "updatedAt"]
ORDERS: dict[MeterOrder, Any] = {
    "key": MeterRow.key,
    "name": MeterRow.definition["name"].astext,
    "aggregation": MeterRow.aggregation,
    "createdAt": MeterRow.created_at,
    "updatedAt": MeterRow.updated_at,
}


def prepare(session: Session, catalog: Catalog, partitions: int) -> None:
    """Make missing rows for partitions and the file's meters, and have changed terms sent to the intake.

    Safe to run again, and by two processes at once. A meter made at run time that stands in the file now is what
    the file says from here on.

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


def list_meters(
    session: Session, file: Catalog, *, order_by: MeterOrder, descending: bool, offset: int, limit: int
) -> Sequence[MeterRow]:
    """The rows of the meters that can be used: those of the catalog file and those made at run time."""
    order = ORDERS[order_by]
    query = select(MeterRow).where(_in_use(file)).order_by(order.desc() if descending else order, MeterRow.key)
    return session.scalars(query.offset(offset).limit(limit)).all()


def find_meter(session: Session, file: Catalog, key_or_id: str, *, lock: bool = False) -> MeterRow:
    """By the meter's key, or by its id in digits. Raises UnknownMeter."""
    query = select(MeterRow).where(_in_use(file))
    if KEY.fullmatch(key_or_id):
        query = query.where(MeterRow.key == key_or_id)
    elif ID.fullmatch(key_or_id):
        query = query.where(MeterRow.id == int(key_or_id))
    else:
        query = query.where(false())
    if lock:
        query = query.with_for_update(key_share=True).execution_options(populate_existing=True)
    row = session.scalars(query).one_or_none()
    if row is None:
        raise UnknownMeter(f"there is no meter {key_or_id!r}", meter=key_or_id)
    return row


def _in_use(file: Catalog) -> ColumnElement[bool]:
    """One that only a catalog file of before named is not, though its usage stays."""
    return or_(MeterRow.origin == "api", MeterRow.key.in_(file.meters))


def create_meter(session: Session, file: Catalog, meter: Meter, *, now: datetime) -> MeterRow:
    """A meter that the catalog file does not name; every process knows it within a second of the commit.

    Raises Conflict: there is one of this key, or there was.
    """
    if meter.key in file.meters:
        raise Conflict(f"the catalog file has a meter {meter.key!r}", meter=meter.key)
    values = {**_values(meter), "origin": "api", "created_at": now, "updated_at": now}
    made = session.scalars(insert(MeterRow).values(values).on_conflict_do_nothing().returning(MeterRow)).one_or_none()
    if made is None:
        raise Conflict(f"there is a meter {meter.key!r} already", meter=meter.key)
    return made


def change_meter(session: Session, file: Catalog, row: MeterRow, meter: Meter, *, now: datetime) -> None:
    """Give a locked row another definition, which may differ in what people read and in further group-by dimensions.

    Raises Conflict: the catalog file says what this meter is; or its groups would change under usage that is stored.
    """
    if row.key in file.meters:
        raise Conflict(f"{row.key!r} is a meter of the catalog file: change it there", meter=row.key)
    present = Meter.model_validate(row.definition)
    if meter == present:
        return
    if meter.group_by != present.group_by:
        _check_groups(session, row, present.group_by, meter.group_by)
    row.definition = meter.model_dump(mode="json")
    row.updated_at = now
    session.flush()


def _check_groups(session: Session, row: MeterRow, present: dict[str, str], wanted: dict[str, str]) -> None:
    """Stored usage is summed by the groups it came in: a new dimension would be missing from all that is there."""
    if not present.items() <= wanted.items():
        raise Conflict("a group-by dimension can be added, not changed or taken away", meter=row.key, field="groupBy")
    if session.scalar(select(PeriodTotal.meter_id).where(PeriodTotal.meter_id == row.id).limit(1)) is not None:
        raise Conflict(
            f"{row.key!r} has usage, which was summed without the new dimension: make a new meter instead",
            meter=row.key,
            field="groupBy",
        )


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
        definition = meter.model_dump(mode="json")
        if row.definition != definition:
            row.definition, row.updated_at = definition, func.now()


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
