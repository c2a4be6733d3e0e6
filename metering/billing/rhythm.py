"""How billing periods follow each other: calendar months in the customer's time zone, or a Stripe subscription's cycle.

A cycle is written as Stripe names it, "1 month", "2 week", and counts from an anchor, in UTC. A monthly one falls on
the anchor's day of the month, or on the last day of months that have fewer.
Source: https://docs.stripe.com/billing/subscriptions/billing-cycle.
"""

from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from metering.errors import MeteringError

MONTHS = {"month": 1, "year": 12}
DAYS = {"day": 1, "week": 7}


class UnknownTimeZone(MeteringError):
    code = "unknown-time-zone"


def zone(name: str) -> ZoneInfo:
    """Raises UnknownTimeZone for a name that the IANA database does not know."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UnknownTimeZone(f"{name!r} is no time zone of the IANA database", timezone=name) from None


@dataclass(frozen=True, slots=True)
class Cycle:
    """A subscription's rhythm: its periods end at `anchor` and every `text` ("1 month") before and after it."""

    anchor: datetime
    text: str

    def end_after(self, moment: datetime) -> datetime:
        """The first end of a period after `moment`."""
        count, unit = self.text.split(" ")
        if unit in DAYS:
            length = timedelta(days=int(count) * DAYS[unit])
            return self.anchor + ((moment - self.anchor) // length + 1) * length
        step = int(count) * MONTHS[unit]
        apart = (moment.year - self.anchor.year) * 12 + moment.month - self.anchor.month
        whole = apart // step - 1
        while (end := _months_later(self.anchor, whole * step)) <= moment:
            whole += 1
        return end


@dataclass(frozen=True, slots=True)
class Stretch:
    """A period as it should be: `[starts_at, ends_at)`, billed by `plan`; `cycle` None where calendar months follow."""

    starts_at: datetime
    ends_at: datetime
    plan: str
    cycle: Cycle | None = None


def month_around(moment: datetime, timezone: str) -> tuple[datetime, datetime]:
    """The calendar month in `timezone` that holds `moment`, as `[start, end)` in UTC."""
    local = moment.astimezone(zone(timezone))
    start = local.replace(day=1, hour=0, minute=0, second=0, microsecond=0, fold=0)
    end = _next_month(start)
    return start.astimezone(UTC), end.astimezone(UTC)


def stretches_until(start: datetime, plan: str, cycle: Cycle | None, timezone: str, until: datetime) -> list[Stretch]:
    """Periods from `start` on, without a gap, up to and including the one after the period that holds `until`."""
    stretches: list[Stretch] = []
    for end in _ends(start, cycle, timezone):
        stretches.append(Stretch(start, end, plan, cycle))
        if start > until:
            break
        start = end
    return stretches


def _ends(start: datetime, cycle: Cycle | None, timezone: str) -> Iterator[datetime]:
    while True:
        # An instant inside the month, not its edge: after a change of time zone the edge may lie in two months.
        start = cycle.end_after(start) if cycle else month_around(start + timedelta(hours=26), timezone)[1]
        yield start


def _next_month(start: datetime) -> datetime:
    year, month = divmod(start.year * 12 + start.month, 12)
    return start.replace(year=year, month=month + 1)


def _months_later(moment: datetime, months: int) -> datetime:
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    return moment.replace(year=year, month=month + 1, day=min(moment.day, monthrange(year, month + 1)[1]))
