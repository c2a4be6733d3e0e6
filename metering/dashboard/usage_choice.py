"""What of a customer's usage is to be shown: the choice that stands in the address of the usage page. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal, cast, get_args
from zoneinfo import ZoneInfo

from metering.catalog import Catalog, Meter
from metering.errors import InvalidQuery
from metering.intake.values import Span
from metering.store.usage_query import KEY_ID
from metering.store.windows import WindowSize

Range = Literal["period", "7d", "30d", "90d", "own"]
DAYS = {"7d": 7, "30d": 30, "90d": 90}
WINDOWS = ("HOUR", "DAY", "MONTH")
MOST_WINDOWS = 24 * 31
"""Bars that a screen can tell apart, and rows that somebody may want to read: a month by the hour."""

MOST_DAYS = 3660
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Choice:
    """`group` is a dimension, "keyId", or empty; `first` and `last` are the days of an own range, both included."""

    meter: Meter
    range: Range = "30d"
    window: WindowSize = "DAY"
    group: str = ""
    first: date | None = None
    last: date | None = None
    compare: bool = False

    @property
    def groups(self) -> list[str]:
        """What this meter's usage can be grouped by: a level belongs to its customer as a whole."""
        return [] if self.meter.is_level else [*self.meter.group_by, KEY_ID]


def choice_of(asked: Mapping[str, str], catalog: Catalog) -> Choice:
    """Raises InvalidQuery: what is asked for is not to be had; `field` says which part of it."""
    first_of_all = next(iter(catalog.meters.values()))
    meter = catalog.meters.get(asked["meter"]) if "meter" in asked else first_of_all
    if meter is None:
        raise InvalidQuery("There is no such meter.", field="meter")
    chosen = asked.get("range", "30d")
    window = asked.get("window", "DAY").upper()
    if chosen not in get_args(Range):
        raise InvalidQuery("There is no such range.", field="range")
    if window not in WINDOWS:
        raise InvalidQuery("Windows are hours, days or months.", field="window")
    first, last = (_day(asked, name) for name in ("from", "to")) if chosen == "own" else (None, None)
    choice = Choice(
        meter=meter,
        range=cast(Range, chosen),
        window=cast(WindowSize, window),
        group=asked.get("group", ""),
        first=first,
        last=last,
        compare=asked.get("compare") == "y",
    )
    if choice.group and choice.group not in choice.groups:
        raise InvalidQuery(f"{meter.name} can’t be grouped by that.", field="group")
    if first and last and not first <= last <= first + MOST_DAYS * DAY:
        raise InvalidQuery("The range must end after it begins, within ten years.", field="to")
    return choice


def _day(asked: Mapping[str, str], name: str) -> date:
    try:
        return date.fromisoformat(asked.get(name, ""))
    except ValueError:
        raise InvalidQuery("Give both days of the range.", field=name) from None


def span_of(choice: Choice, period: Span, where: ZoneInfo, now: datetime) -> tuple[datetime, datetime]:
    """The time that is shown, as far as it has come: `[start, end)`. Raises InvalidQuery where it has not begun."""
    if choice.range == "period":
        return period.starts_at, min(period.ends_at, now)
    if choice.range == "own":
        assert choice.first is not None
        assert choice.last is not None
        start, end = _midnight(choice.first, where), _midnight(choice.last + DAY, where)
        if start >= now:
            raise InvalidQuery("That range has not begun yet.", field="from")
        return start, min(end, now)
    today = now.astimezone(where).date()
    return _midnight(today - (DAYS[choice.range] - 1) * DAY, where), now


def span_before(
    choice: Choice, span: tuple[datetime, datetime], before: Span | None, where: ZoneInfo
) -> tuple[datetime, datetime] | None:
    """What a span is compared with: the period before, or as many days before; None where there is none."""
    if choice.range == "period":
        return (before.starts_at, before.ends_at) if before else None
    first = span[0].astimezone(where).date()
    days = (choice.last - first).days + 1 if choice.last else DAYS[choice.range]
    start = _midnight(first - days * DAY, where)
    return start, span[0]


def _midnight(day: date, where: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), where).astimezone(UTC)
