"""Billing periods: from an anchor on in steps of days, weeks, calendar months or years, in UTC.

A month that is too short ends on its last day, and the next one is on the anchor's day again: 31 January, 28 February,
31 March. Source: Stripe's page "Set the subscription billing renewal date".
"""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, datetime

DAY_SECONDS = 24 * 3600
_SECONDS = {"day": DAY_SECONDS, "week": 7 * DAY_SECONDS}
_MONTHS = {"month": 1, "year": 12}


def boundary(anchor: int, interval: str, count: int, number: int) -> int:
    """The Unix time `number` periods after the anchor, or before it."""
    if interval in _SECONDS:
        return anchor + number * count * _SECONDS[interval]
    start = datetime.fromtimestamp(anchor, UTC)
    year, month = divmod(start.year * 12 + start.month - 1 + number * count * _MONTHS[interval], 12)
    day = min(start.day, monthrange(year, month + 1)[1])
    return int(start.replace(year=year, month=month + 1, day=day).timestamp())


def period_around(anchor: int, interval: str, count: int, at: int) -> tuple[int, int]:
    """The period with start <= at < end."""
    number = (at - anchor) // (boundary(anchor, interval, count, 1) - anchor)
    while boundary(anchor, interval, count, number) > at:
        number -= 1
    while boundary(anchor, interval, count, number + 1) <= at:
        number += 1
    return boundary(anchor, interval, count, number), boundary(anchor, interval, count, number + 1)
