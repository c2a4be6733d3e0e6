"""The limits of a call as header fields.

`RateLimit-Policy` and `RateLimit` follow draft-ietf-httpapi-ratelimit-headers-10: one item a limit, named after its
meter; `q` the quota, `w` the period in seconds, `r` what remains, `t` the seconds until it resets. Quantities are whole
units of the meter, rounded down; a level (storage, seats) has no `w` and no `t`, for it never resets. The older
`X-RateLimit-*` trio speaks of the limit that is nearest to its end; its reset is in seconds since the epoch.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from metering.catalog import Meter
from metering.intake.values import MeterStanding, Span

MAX_INTEGER = 999_999_999_999_999  # RFC 9651: the largest integer of a structured field


def limit_headers(
    meters: Mapping[str, Meter], standings: Sequence[MeterStanding], period: Span, now: datetime
) -> dict[str, str]:
    """The fields for these limits; empty when none of them is limited."""
    limited = [standing for standing in standings if standing.limit is not None]
    if not limited:
        return {}
    left = max(0, int((period.ends_at - now).total_seconds()))
    length = int((period.ends_at - period.starts_at).total_seconds())
    policies, states = [], []
    for standing in limited:
        meter = meters[standing.meter]
        quota, remaining = _whole(meter, standing.limit or 0), _whole(meter, standing.remaining or 0)
        policies.append(f'"{meter.key}";q={quota}' + ("" if meter.is_level else f";w={length}"))
        states.append(f'"{meter.key}";r={remaining}' + ("" if meter.is_level else f";t={left}"))
    nearest = min(limited, key=_remaining_share)
    meter = meters[nearest.meter]
    headers = {
        "RateLimit-Policy": ", ".join(policies),
        "RateLimit": ", ".join(states),
        "X-RateLimit-Limit": str(_whole(meter, nearest.limit or 0)),
        "X-RateLimit-Remaining": str(_whole(meter, nearest.remaining or 0)),
    }
    if not meter.is_level:
        headers["X-RateLimit-Reset"] = str(int(period.ends_at.timestamp()))
    return headers


def _whole(meter: Meter, units: int) -> int:
    per_unit: int = 10**meter.scale
    return min(MAX_INTEGER, units // per_unit)


def _remaining_share(standing: MeterStanding) -> float:
    return (standing.remaining or 0) / standing.limit if standing.limit else 0.0
