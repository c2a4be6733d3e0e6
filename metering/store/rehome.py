"""Puts what is stored where it belongs after the bounds of billing periods were moved.

Always holds: the caller holds the customer's partition, so no drain stores meanwhile by the bounds of before; events,
rollups, totals and accruals agree again when this is done, and live counters follow by corrections. What still waits in
the stream is not looked at: the drain decides by the bounds it finds, and corrects the counters in the same way.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from metering.clock import floor_hour, to_micros
from metering.models import Correction, Customer, Level
from metering.store.batch import fold_levels
from metering.store.sql import statement


def rehome(session: Session, customer: Customer, since: datetime) -> int:
    """Count events since `since` in the periods that hold them, and accrue levels anew from there; the caller commits.

    How many hours and groups moved. Periods that are closed neither get nor lose anything.
    """
    moved = session.execute(statement("move_events"), {"customer_id": customer.id, "since": since}).all()
    if moved:
        _recompute(session, customer, moved)
        _correct(session, customer, moved)
    _accrue_anew(session, customer, floor_hour(since))
    session.execute(statement("note_cut_hours"), {"customer_id": customer.id})
    return len(moved)


def _recompute(session: Session, customer: Customer, moved: Sequence[Any]) -> None:
    keys = [(row.meter_id, period, row.hour, row.grp) for row in moved for period in (row.before, row.after)]
    session.execute(
        statement("recompute_rollups"),
        {
            "customer_id": customer.id,
            "meter_ids": [key[0] for key in keys],
            "period_ids": [key[1] for key in keys],
            "hours": [key[2] for key in keys],
            "groups": [key[3] for key in keys],
        },
    )
    periods = sorted({key[1] for key in keys})
    session.execute(statement("recompute_totals"), {"customer_id": customer.id, "period_ids": periods})


def _correct(session: Session, customer: Customer, moved: Sequence[Any]) -> None:
    changes: Counter[tuple[str, int]] = Counter()
    for row in moved:
        changes[row.meter, row.before] -= int(row.units)
        changes[row.meter, row.after] += int(row.units)
    values = [
        {
            "partition": customer.partition,
            "customer": customer.key,
            "meter": meter,
            "period_id": period,
            "units": units,
        }
        for (meter, period), units in sorted(changes.items())
        if units
    ]
    if values:
        session.execute(insert(Correction), values)


def _accrue_anew(session: Session, customer: Customer, hour: datetime) -> None:
    """A level's hours from `hour` on are closed again, in the periods that hold them now."""
    query = select(Level.meter_id).where(Level.customer_id == customer.id, Level.accrued_until >= hour)
    fold_levels(session, [(customer.id, meter_id, to_micros(hour)) for meter_id in session.scalars(query)])
