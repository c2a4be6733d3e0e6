"""The windows of a usage query: where the local clock cuts a range of time. Pure.

Always holds: windows are half-open and leave no gap. A minute or an hour is an unbroken run of that minute or hour on
the local clock, under one offset from UTC: the hour that comes twice when clocks are put back is two windows, and where
they move by half an hour it is two shorter ones. A day (a month) begins with the first instant of its date on the local
clock, whatever the clock shows then: so days of 23 and 25 hours come out right, and a date that is skipped has none.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from metering.clock import MICROSECOND, floor_hour, from_micros, to_micros
from metering.errors import InvalidQuery

WindowSize = Literal["MINUTE", "HOUR", "DAY", "MONTH"]

MAX_WINDOWS = 50_000
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)

DAY = timedelta(days=1)
CLOCK_SIZES = {"MINUTE": timedelta(minutes=1), "HOUR": timedelta(hours=1)}
LONGEST = {**CLOCK_SIZES, "DAY": timedelta(hours=48), "MONTH": timedelta(days=33)}
"""No window is longer: a range of more than so many of these has too many, and need not be walked to see it."""


def window_around(moment: datetime, size: WindowSize, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The window that holds `moment`, in UTC."""
    before, after = moment - LONGEST[size], moment + LONGEST[size] + MICROSECOND
    starts = edges(before, moment + MICROSECOND, size, zone)
    return starts[-2], edges(moment, after, size, zone)[1]


@dataclass(frozen=True, slots=True)
class _Run:
    """A stretch `[starts, ends)` over which the local clock keeps its offset from UTC."""

    starts: datetime
    ends: datetime
    offset: timedelta


def edges(from_: datetime, to: datetime, size: WindowSize | None, zone: ZoneInfo) -> list[datetime]:
    """`from_`, every start of a window between them, and `to`, in UTC: window n is `[edges[n], edges[n + 1])`.

    So the first and the last window are cut to the range. Without a size there is one.

    Raises:
        InvalidQuery: the range is empty, too far away, or has more than `MAX_WINDOWS` windows.
    """
    from_, to = from_.astimezone(UTC), to.astimezone(UTC)
    _check_range(from_, to)
    if size is None:
        return [from_, to]
    if to - from_ > MAX_WINDOWS * LONGEST[size]:
        raise _too_many(size)
    runs = _runs(from_ - 2 * DAY, to, zone)  # a date that the clock goes back to had begun before
    starts = _clock_starts(runs, CLOCK_SIZES[size]) if size in CLOCK_SIZES else _date_starts(runs, size)
    found = [from_, *(start for start in starts if from_ < start < to), to]
    if len(found) > MAX_WINDOWS + 1:
        raise _too_many(size)
    return found


def cut_hours(found: Sequence[datetime]) -> list[datetime]:
    """The UTC hours that an edge cuts in two, in order."""
    return sorted({hour for edge in found if (hour := floor_hour(edge)) != edge})


def joined(hours: Iterable[datetime]) -> list[tuple[datetime, datetime]]:
    """Hours, in order, as stretches `[start, end)`: neighbours are one."""
    stretches: list[tuple[datetime, datetime]] = []
    for hour in hours:
        ends = hour + CLOCK_SIZES["HOUR"]
        if stretches and stretches[-1][1] == hour:
            stretches[-1] = (stretches[-1][0], ends)
        else:
            stretches.append((hour, ends))
    return stretches


def _check_range(from_: datetime, to: datetime) -> None:
    if from_ >= to:
        raise InvalidQuery("from must lie before to", field="from")
    if from_ < EARLIEST or to > LATEST:
        raise InvalidQuery(f"from and to must lie in the years {EARLIEST.year} to {LATEST.year - 1}", field="from")


def _too_many(size: WindowSize) -> InvalidQuery:
    return InvalidQuery(f"there are more than {MAX_WINDOWS} windows of this size", field=size, most=MAX_WINDOWS)


def _runs(start: datetime, end: datetime, zone: ZoneInfo) -> list[_Run]:
    runs: list[_Run] = []
    begins = moment = start
    while moment < end:
        ahead = min(moment + DAY, end)
        offset = _offset(moment, zone)
        if _offset(ahead, zone) != offset:
            ahead = _first_instant_without(offset, moment, ahead, zone)
            runs.append(_Run(begins, ahead, offset))
            begins = ahead
        elif ahead == end:
            runs.append(_Run(begins, end, offset))
        moment = ahead
    return runs


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta(0)


def _first_instant_without(offset: timedelta, before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """When the clock was moved, between `before` and `after`."""
    while after - before > MICROSECOND:
        middle = before + (after - before) // 2
        if _offset(middle, zone) == offset:
            before = middle
        else:
            after = middle
    return after


def _clock_starts(runs: Iterable[_Run], size: timedelta) -> Iterator[datetime]:
    step = size // MICROSECOND
    for run in runs:
        yield run.starts  # a window never holds two offsets
        local, ends, shift = to_micros(run.starts + run.offset), to_micros(run.ends), run.offset // MICROSECOND
        for start in range(local - local % step + step - shift, ends, step):
            yield from_micros(start)


def _date_starts(runs: Iterable[_Run], size: WindowSize) -> Iterator[datetime]:
    """Where a later date (or month) begins than any that was seen before."""
    seen: datetime | None = None
    for run in runs:
        local, last = _floor(run.starts + run.offset, size), run.ends - MICROSECOND + run.offset
        while local <= last:
            if seen is None or local > seen:
                yield max(run.starts, local - run.offset)
                seen = local
            local = _floor(local + LONGEST[size], size) if size == "MONTH" else local + DAY


def _floor(local: datetime, size: WindowSize) -> datetime:
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight.replace(day=1) if size == "MONTH" else midnight
