"""The limits and rates of a call as header fields.

`RateLimit-Policy` and `RateLimit` follow draft-ietf-httpapi-ratelimit-headers-10: one item a limit, named after its
meter, and one a rate, named `customer-rate` and `key-rate`; `q` is the quota, `w` its window in seconds, `r` what
remains, `t` the seconds until all of it is there again. Quantities are whole units of the meter, rounded down; a level
(storage, seats) has no `w` and no `t`, for it never resets. The older `X-RateLimit-*` trio speaks of the limit or rate
that is nearest to its end; its reset is in seconds since the epoch.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from metering.catalog import Meter
from metering.clock import to_micros
from metering.intake.values import MeterStanding, RateStanding, Span

MAX_INTEGER = 999_999_999_999_999  # RFC 9651: the largest integer of a structured field
SECOND = 1_000_000


class Item(NamedTuple):
    """One limit or rate as the fields tell it. `resets_at` in seconds since the epoch, None: never."""

    policy: str
    state: str
    limit: int
    remaining: int
    resets_at: int | None
    share: float


def limit_headers(
    meters: Mapping[str, Meter],
    standings: Sequence[MeterStanding],
    rates: Sequence[RateStanding],
    period: Span,
    now: datetime,
) -> dict[str, str]:
    """The fields for these limits and rates; empty when there are none."""
    items = [_of_meter(meters[one.meter], one, period, now) for one in standings if one.limit is not None]
    items += [_of_rate(rate, to_micros(now)) for rate in rates]
    if not items:
        return {}
    nearest = min(items, key=lambda item: item.share)
    headers = {
        "RateLimit-Policy": ", ".join([item.policy for item in items]),
        "RateLimit": ", ".join([item.state for item in items]),
        "X-RateLimit-Limit": str(nearest.limit),
        "X-RateLimit-Remaining": str(nearest.remaining),
    }
    if nearest.resets_at is not None:
        headers["X-RateLimit-Reset"] = str(nearest.resets_at)
    return headers


def _of_meter(meter: Meter, standing: MeterStanding, period: Span, now: datetime) -> Item:
    limit, left = standing.limit or 0, standing.remaining or 0
    quota, remaining = _whole(meter, limit), _whole(meter, left)
    share = left / limit if limit else 0.0
    if meter.is_level:
        return Item(f'"{meter.key}";q={quota}', f'"{meter.key}";r={remaining}', quota, remaining, None, share)
    window = int((period.ends_at - period.starts_at).total_seconds())
    wait = max(0, int((period.ends_at - now).total_seconds()))
    return Item(
        policy=f'"{meter.key}";q={quota};w={window}',
        state=f'"{meter.key}";r={remaining};t={wait}',
        limit=quota,
        remaining=remaining,
        resets_at=int(period.ends_at.timestamp()),
        share=share,
    )


def _of_rate(rate: RateStanding, now: int) -> Item:
    """The trio speaks of the burst, of which `r` is what remains; the policy tells the rate as it was agreed."""
    remaining, full_in = rate.remaining(now), rate.full_in_micros(now)
    return Item(
        policy=f'"{rate.which}-rate";q={rate.count};w={rate.seconds}',
        state=f'"{rate.which}-rate";r={remaining};t={-(-full_in // SECOND)}',
        limit=rate.burst,
        remaining=remaining,
        resets_at=-(-(now + full_in) // SECOND),
        share=remaining / rate.burst,
    )


def _whole(meter: Meter, units: int) -> int:
    per_unit: int = 10**meter.scale
    return min(MAX_INTEGER, units // per_unit)
