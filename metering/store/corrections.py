"""What stands in the place of a corrected event, and what such a replacement was put in the place of.

A replacement has the place of its original in the stream, its time and its source (`store/void.py`), as has what
replaces it in turn: events of one meter that share them are one fact, told anew each time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from metering.catalog.aggregations import to_quantity
from metering.models import Event, MeterRow

REVISED = "~"
"""Stands in the id of each replacement, before the time at which it was made."""


class Fact(NamedTuple):
    """What all tellings of one fact share, as one meter counted it."""

    customer_id: int
    meter_id: int
    time: datetime
    position: int
    item: int
    source: str


@dataclass(frozen=True, slots=True)
class Telling:
    """`digest` is the event's public id; `counts` what of it counts now, in the meter's unit: 0 once it was voided."""

    digest: str
    counts: Decimal


def tellings(session: Session, facts: Sequence[Fact]) -> Mapping[Fact, Sequence[Telling]]:
    """Each of these facts as it was told: first as it was sent, last as it stands now."""
    if not facts:
        return {}
    columns = (Event.customer_id, Event.meter_id, Event.time, Event.position, Event.item, Event.source)
    query = (
        select(*columns, Event.digest, Event.units, Event.voided_at, MeterRow.scale)
        .join(MeterRow, MeterRow.id == Event.meter_id)
        .where(tuple_(*columns).in_(facts))
        .order_by(func.length(Event.event_id))  # each telling's id goes on from the one before
    )
    found: dict[Fact, list[Telling]] = {}
    for *fact, digest, units, voided_at, scale in session.execute(query):
        counts = Decimal(0) if voided_at else to_quantity(units, scale)
        found.setdefault(Fact(*fact), []).append(Telling(digest.hex, counts))
    return found
