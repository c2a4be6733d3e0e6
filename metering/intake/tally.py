"""What flows, by minute: counted in each process's memory, and added to Redis' every few seconds by a thread.

No call waits for it, and none costs a round trip more. These figures are for looking, not for bills: a process that is
killed loses those of its last seconds, and while Redis is away nothing is counted.
"""

import math
import os
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from redis import Redis
from redis.exceptions import RedisError

FLUSH_SECONDS = 5.0
KEPT_SECONDS = 3 * 3600
STEPS_PER_OCTAVE = 4
"""How finely times are told apart: each step is a fifth longer than the one before."""

TIME, REFUSED = "time:", "refused:"


class Tally:
    """Counts of one process. `redis` is that of the queue, which no script runs in."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._counts: Counter[tuple[int, str]] = Counter()
        self._lock = threading.Lock()
        self._pid: int | None = None
        self._closed = threading.Event()

    def recorded(self, events: int, now: datetime) -> None:
        """Events that the intake took in, each meter's apart."""
        self._count(now, "recorded", events)

    def drained(self, events: int, now: datetime) -> None:
        """Events that came to PostgreSQL."""
        self._count(now, "drained", events)

    def admitted(self, seconds: float, now: datetime) -> None:
        """A call that was decided on, and how long the decision took as its process saw it."""
        self._count(now, "calls", 1)
        self._count(now, f"{TIME}{_step(seconds)}", 1)

    def refused(self, what: str, now: datetime) -> None:
        """A 429. `what`: the meter whose limit held it, or `rate`."""
        self._count(now, f"{REFUSED}{what}", 1)

    def flush(self) -> int:
        """Add what was counted to Redis'; how many figures. What cannot be sent is forgotten."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        if not counts:
            return 0
        pipe = self._redis.pipeline(transaction=False)
        for (minute, name), number in counts.items():
            pipe.hincrby(_key(minute), name, number)
        for minute in {minute for minute, _ in counts}:
            pipe.expire(_key(minute), KEPT_SECONDS)
        try:
            pipe.execute()
        except RedisError:
            return 0
        return len(counts)

    def close(self) -> None:
        self._closed.set()

    def _count(self, now: datetime, name: str, number: int) -> None:
        if not number:
            return
        key = (int(now.timestamp()) // 60, name)
        with self._lock:
            self._counts[key] += number
            if self._pid != os.getpid():  # a forked web worker starts a thread of its own
                self._pid = os.getpid()
                threading.Thread(target=self._run, name="metering-tally", daemon=True).start()

    def _run(self) -> None:
        while not self._closed.wait(FLUSH_SECONDS):
            self.flush()


@dataclass(frozen=True, slots=True)
class Minute:
    """`starts_at` is a whole minute. `refused` is by meter; `times` counts decisions by the step of their length."""

    starts_at: datetime
    recorded: int
    drained: int
    calls: int
    refused: Mapping[str, int]
    times: Mapping[int, int]


def last_minutes(redis: Redis, now: datetime, number: int) -> list[Minute]:
    """The oldest first, the one that runs last. Raises RedisError."""
    newest = int(now.timestamp()) // 60
    minutes = range(newest - number + 1, newest + 1)
    pipe = redis.pipeline(transaction=False)
    for minute in minutes:
        pipe.hgetall(_key(minute))
    start = now.replace(second=0, microsecond=0)
    return [
        _minute(start - timedelta(minutes=newest - minute), cast("Mapping[bytes, bytes]", found))
        for minute, found in zip(minutes, pipe.execute(), strict=True)
    ]


def percentile_seconds(minutes: Sequence[Minute], percent: float) -> float | None:
    """A time that so many of all decisions took at most, to a fifth of it; None where there was none."""
    times: Counter[int] = Counter()
    for minute in minutes:
        times.update(minute.times)
    wanted = math.ceil(times.total() * percent / 100)
    for step in sorted(times):
        wanted -= times[step]
        if wanted <= 0:
            return float(2 ** ((step + 1) / STEPS_PER_OCTAVE) / 1_000_000)
    return None


def _minute(starts_at: datetime, found: Mapping[bytes, bytes]) -> Minute:
    named = {name.decode(): int(number) for name, number in found.items()}

    def under(prefix: str) -> dict[Any, int]:
        return {name.removeprefix(prefix): number for name, number in named.items() if name.startswith(prefix)}

    return Minute(
        starts_at,
        recorded=named.get("recorded", 0),
        drained=named.get("drained", 0),
        calls=named.get("calls", 0),
        refused=under(REFUSED),
        times={int(step): number for step, number in under(TIME).items()},
    )


def _step(seconds: float) -> int:
    return max(0, math.floor(math.log2(max(seconds, 1e-6) * 1_000_000) * STEPS_PER_OCTAVE))


def _key(minute: int) -> str:
    return f"metering:flow:{minute}"
