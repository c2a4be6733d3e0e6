"""Where a usage query is read from: rollups wherever these suffice, events where they cannot. Pure.

Always holds: what is read from rollups and what is read from events never overlap, and together they are the range.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from metering.clock import floor_hour
from metering.store.windows import cut_hours, joined

Source = Literal["rollups", "accruals", "events"]

HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Reading:
    """How the usage between the first and the last of `edges` is read.

    `hours_from` to `hours_until` come from rollups, but for `cut_hours`; `stretches` come from events.
    """

    edges: Sequence[datetime]
    hours_from: datetime
    hours_until: datetime
    cut_hours: Sequence[datetime]
    stretches: Sequence[tuple[datetime, datetime]]

    @property
    def sources(self) -> frozenset[Source]:
        found: set[Source] = set()
        if (self.hours_until - self.hours_from) // HOUR > len(self.cut_hours):
            found.add("rollups")
        if self.stretches:
            found.add("events")
        return frozenset(found)


@dataclass(frozen=True, slots=True)
class LevelReading:
    """How a level is read in the windows between `edges`, the last of which is no later than now.

    With `closes_hours` the accruals of whole hours stand for their events; hours that are not closed yet, and the
    `cut_hours`, are read from events all the same.
    """

    edges: Sequence[datetime]
    first_hour: datetime
    cut_hours: Sequence[datetime]
    closes_hours: bool

    @property
    def sources(self) -> frozenset[Source]:
        return frozenset(["accruals", "events"] if self.closes_hours else ["events"])


def reading(edges: Sequence[datetime], *, from_rollups: bool) -> Reading:
    """`from_rollups` is whether rollups know all that is asked for."""
    first, last = edges[0], edges[-1]
    hours_from, hours_until = floor_hour(first), _ceil_hour(last)
    cut = cut_hours(edges)
    if not from_rollups or len(cut) == (hours_until - hours_from) // HOUR:
        return Reading(edges, hours_from, hours_from, (), ((first, last),))
    stretches = tuple((max(starts, first), min(ends, last)) for starts, ends in joined(cut))
    return Reading(edges, hours_from, hours_until, cut, stretches)


def level_reading(edges: Sequence[datetime], *, closes_hours: bool, now: datetime) -> LevelReading | None:
    """None when all windows are yet to come: nobody knows a level of the future."""
    begun = [edge for edge in edges[:-1] if edge < now]
    if not begun:
        return None
    known = [*begun, min(now, edges[len(begun)])]
    return LevelReading(known, floor_hour(known[0]), cut_hours(known), closes_hours)


def _ceil_hour(moment: datetime) -> datetime:
    hour = floor_hour(moment)
    return hour if hour == moment else hour + HOUR
