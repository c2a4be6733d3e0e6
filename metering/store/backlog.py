"""What waits between Redis and PostgreSQL, partition by partition, and since when."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from redis import Redis

from metering.clock import from_micros
from metering.intake import scripts
from metering.models import PartitionRow
from metering.store.lineage import is_lost
from metering.store.stream import decode


@dataclass(frozen=True, slots=True)
class Backlog:
    """`entries` of a partition's stream are not in PostgreSQL yet; the oldest of them was admitted at `oldest`.

    `lost`: the counters and the stream are not those PostgreSQL knows, and wait to be rebuilt.
    """

    partition: int
    entries: int = 0
    oldest: datetime | None = None
    lost: bool = False


def backlogs(redis: Redis, partitions: Sequence[PartitionRow]) -> list[Backlog]:
    """In the order of `partitions`, in one round trip. Raises redis.RedisError."""
    pipe = redis.pipeline(transaction=False)
    for row in partitions:
        key = scripts.prefix(row.partition)
        pipe.mget(key + "gen", key + "seq")
        pipe.xrange(key + "stream", min=f"({row.generation}-{row.sequence}", count=1)
    answers = pipe.execute()
    run = scripts.redis_run(redis)
    pairs = zip(answers[::2], answers[1::2], strict=True)
    return [_backlog(row, run, state, first) for row, (state, first) in zip(partitions, pairs, strict=True)]


def _backlog(row: PartitionRow, run: str, state: Sequence[bytes | None], first: list[Any]) -> Backlog:
    if is_lost(row, run, state):
        return Backlog(row.partition, lost=True)
    waiting = int(state[1] or 0) - row.sequence
    return Backlog(row.partition, entries=waiting, oldest=_admitted(row.partition, first) if first else None)


def _admitted(partition: int, first: list[tuple[bytes, dict[bytes, bytes]]]) -> datetime:
    """When an entry was admitted; for one that cannot be read the earliest moment there is: it holds up what waits."""
    decision, message = next(iter(first[0][1].items()))
    try:
        return from_micros(decode(partition, 0, 0, decision, message).admitted)
    except (ValueError, TypeError):
        return from_micros(0)
