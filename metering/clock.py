"""Time, passed in. Nothing below the edges (a view, a job, a command) asks what time it is.

Instants are aware datetimes in UTC inside Python and whole microseconds since the epoch in Redis and in usage
entries; the conversion is exact, no float takes part in it.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def utc_now() -> datetime:
    """The system's clock, in UTC: what the edges pass in outside of tests."""
    return datetime.now(UTC)


def to_micros(moment: datetime) -> int:
    """Whole microseconds since the epoch. A naive datetime is a mistake and raises TypeError."""
    return (moment - EPOCH) // MICROSECOND


def from_micros(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)


def floor_hour(moment: datetime) -> datetime:
    """The start of the UTC hour that holds `moment`."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def zulu(moment: datetime) -> str:
    """As other programs read it: ISO 8601 in UTC, "2026-12-01T00:00:00Z"."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
