"""How much was called in the last minutes, as bars: what the newest events say, however many there are.

No more than MOST_READ events are looked at. Where these reach back less than half an hour, the bars become finer and
cover the last minutes or seconds instead, so that each bar that is drawn is exact.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from metering import quantities
from metering.catalog import Catalog, Meter
from metering.clock import from_micros, to_micros
from metering.dashboard.access import Access
from metering.dashboard.figures import from_database
from metering.dashboard.view_models import PulseView, Spark
from metering.store.event_list import Newest, newest_by_second

BARS = 30
MOST_READ = 2_000


@dataclass(frozen=True, slots=True)
class Scale:
    bar_seconds: int
    each: str
    within: str
    span: str

    def starts_at(self, now: int) -> int:
        """The second at which the first bar begins; the last one is that of `now`."""
        return now - now % self.bar_seconds - (BARS - 1) * self.bar_seconds


SCALES = (
    Scale(60, "minute", "a minute", "30 minutes"),
    Scale(10, "10 seconds", "10 seconds", "5 minutes"),
    Scale(1, "second", "a second", "30 seconds"),
)


def read(access: Access, catalog: Catalog, now: datetime) -> PulseView | None:
    """None while PostgreSQL is away, and where a catalog has no meter that would beat."""
    meter = beating(catalog)
    if meter is None:
        return None
    second = to_micros(now) // 1_000_000
    since = from_micros(SCALES[0].starts_at(second) * 1_000_000)
    newest = from_database(
        lambda session: newest_by_second(session, access.customer_id, meter.key, since=since, most=MOST_READ)
    )
    return None if newest is None else pulse(meter, newest, second)


def beating(catalog: Catalog) -> Meter | None:
    """The first of the file's meters that counts what is called, not what is kept."""
    meters = (meter for meter in catalog.meters.values() if meter.key not in catalog.made_at_run_time)
    return next((meter for meter in meters if meter.counts_live and not meter.is_level), None)


def pulse(meter: Meter, newest: Newest, now: int) -> PulseView:
    """`now` in whole seconds. Pure."""
    scale = scale_for(newest, now)
    bars = per_bar(newest.units, scale, now)
    used, most = meter.to_quantity(sum(bars)), meter.to_quantity(max(bars))
    highest = max(*bars, 1)
    text = f"None in the last {scale.span}"
    if used:
        total = quantities.in_words(meter, used)
        text = f"{total} in the last {scale.span}, at most {quantities.short(meter, most)} in {scale.within}"
    return PulseView(
        title=f"{meter.name} per {scale.each}",
        text=text,
        spark=Spark(tuple(int(Decimal(max(one, 0)) * 100 / highest) or int(one > 0) for one in bars), text),
    )


def scale_for(newest: Newest, now: int) -> Scale:
    """The longest that is known in full; the finest where even that is not."""
    if not newest.is_cut:
        return SCALES[0]
    known_from = min(newest.units, default=now) + 1
    return next((scale for scale in SCALES if scale.starts_at(now) >= known_from), SCALES[-1])


def per_bar(units: Mapping[int, int], scale: Scale, now: int) -> list[int]:
    first, bars = scale.starts_at(now), [0] * BARS
    for second, used in units.items():
        place = (second - first) // scale.bar_seconds
        if 0 <= place < BARS:
            bars[place] += used
    return bars
