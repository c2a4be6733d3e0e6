"""How a level (bytes stored, seats taken) becomes what it costs by the hour. Pure.

Always holds: an hour is split where a billing period ends inside it; what is folded in several steps adds up to what is
folded in one, because each (period, hour) is rounded by itself; a level costs from the instant of a change on.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from metering.clock import floor_hour, from_micros, to_micros
from metering.intake.values import Span

HOUR_MICROS = 3_600_000_000
SECOND_MICROS = 1_000_000

BillsAs = Literal["time_weighted", "maximum"]


class Change(NamedTuple):
    """An event on a level: `set` replaces it by `units`, `change` adds them."""

    time: datetime
    op: str
    units: int


@dataclass(frozen=True, slots=True)
class Opening:
    """A level at a whole UTC hour. `peak` is the highest it was earlier in the period that holds `at`."""

    at: datetime
    level: int
    peak: int = 0


@dataclass(frozen=True, slots=True)
class HourAccrual:
    """What a level cost in one hour of one period; the fields are those of `models.Accrual`."""

    period_id: int
    hour: datetime
    units: int
    closing: int
    peak: int


@dataclass(frozen=True, slots=True)
class Folded:
    """The accruals in the order of time, and the level after the last change that was folded."""

    hours: tuple[HourAccrual, ...]
    level: int


def accrue(
    opening: Opening,
    changes: Sequence[Change],
    periods: Sequence[Span],
    *,
    until: datetime,
    bills_as: BillsAs,
    as_of: datetime | None = None,
) -> Folded:
    """Fold `changes` into one accrual for each hour of each period in `[opening.at, until)`, idle hours too.

    `changes` are in the order of (time, position, item) and not before `opening.at`; `periods` are in order, from the
    first one on that ends after `opening.at`; `until` is a whole hour. With `as_of` the hours cost only up to that
    instant, the changes at it included: what the last hour has cost so far.

    `units` are unit-seconds for "time_weighted" and the rise of the period's maximum for "maximum". A level that is
    carried into a period counts as its first maximum, and so does each level between two changes, however short.
    A level below zero (late corrections can make one) costs nothing; it is no credit.

    Time before the first of the periods is not billed: no hour of it has units. There, an hour with changes leaves an
    accrual of zero under the first period, so that a late event finds the level that it has to start from.
    """
    walk = _Walk(opening.level, changes)
    end = to_micros(until if as_of is None else as_of)
    start = to_micros(opening.at)
    hours = list(_unbilled(walk, periods[0])) if periods else []
    for period in periods:
        walk.peak = opening.peak if to_micros(period.starts_at) < start else 0
        for hour, starts, ends in _pieces(period, start, to_micros(until)):
            if as_of is not None and starts > end:
                break
            before = walk.peak
            weighed = walk.cross(starts, ends, end)
            units = walk.peak - before if bills_as == "maximum" else _whole_seconds(weighed)
            hours.append(HourAccrual(period.id, from_micros(hour), units, walk.level, walk.peak))
    walk.carry_to(to_micros(until))
    return Folded(tuple(hours), walk.level)


class _Walk:
    """A level on its way along its changes; instants are microseconds since the epoch."""

    def __init__(self, level: int, changes: Sequence[Change]) -> None:
        self.level = level
        self.peak = 0
        self._changes = changes
        self._times = [to_micros(change.time) for change in changes]
        self._place = 0

    @property
    def next_time(self) -> int | None:
        """When the next change happens, None after the last."""
        return self._times[self._place] if self._place < len(self._times) else None

    def cross(self, starts: int, ends: int, end: int) -> int:
        """Go from `starts` to `ends`, noting the peak; the unit-microseconds of the way up to `end`."""
        self.carry_to(starts)
        weighed, moment, level = 0, starts, self.level
        peak = max(self.peak, level)
        for time, op, units in self._take_before(min(ends, end + 1)):
            if level > 0:
                weighed += level * (time - moment)
            moment = time
            level = units if op == "set" else level + units
            if level > peak:
                peak = level
        self.level, self.peak = level, peak
        return weighed + max(0, level) * max(0, min(ends, end) - moment)

    def carry_to(self, moment: int) -> None:
        """Apply the changes before `moment`, at no cost."""
        for _, op, units in self._take_before(moment):
            self.level = units if op == "set" else self.level + units

    def _take_before(self, moment: int) -> Iterator[tuple[int, str, int]]:
        """The changes before `moment` that were not taken yet, as (time, op, units)."""
        first = self._place
        self._place = bisect_left(self._times, moment, first)
        for time, change in zip(self._times[first : self._place], self._changes[first : self._place], strict=True):
            yield time, change.op, change.units


def _unbilled(walk: _Walk, first: Span) -> Iterator[HourAccrual]:
    """The hours before the first period in which the level changed."""
    starts = to_micros(first.starts_at)
    # The hour in which the period begins gets an accrual of its own anyway.
    while (time := walk.next_time) is not None and (ends := time - time % HOUR_MICROS + HOUR_MICROS) <= starts:
        walk.carry_to(ends)
        yield HourAccrual(first.id, from_micros(ends - HOUR_MICROS), 0, walk.level, 0)


def _pieces(period: Span, start: int, until: int) -> Iterator[tuple[int, int, int]]:
    """The hours of a period within `[start, until)`, each with the part of it that lies in the period."""
    begins, ends = to_micros(period.starts_at), to_micros(period.ends_at)
    hour = max(start, to_micros(floor_hour(period.starts_at)))
    while hour < min(until, ends):
        yield hour, max(hour, begins), min(hour + HOUR_MICROS, ends)
        hour += HOUR_MICROS


def _whole_seconds(unit_micros: int) -> int:
    """Unit-microseconds as whole unit-seconds, half to even.

    Many of these are added up. Rounding halves up would make the sum drift upwards; halves to even cancel out.
    """
    whole, rest = divmod(unit_micros, SECOND_MICROS)
    return whole + (rest * 2 + whole % 2 > SECOND_MICROS)
