"""How usage flows: what operators and their monitoring look at first."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from metering.intake import scripts
from metering.models import Correction, Inbox, PartitionRow, SetAside


@dataclass(frozen=True, slots=True)
class Flow:
    """`backlog_entries` wait in the streams; `lag_seconds` since the last drain of a partition that has some."""

    redis_up: bool
    backlog_entries: int
    lag_seconds: float
    lost_partitions: int
    set_aside: int
    inbox: int
    corrections: int

    def gauges(self) -> Iterator[tuple[str, float, str]]:
        """Name, value and meaning of each figure."""
        yield "redis_up", float(self.redis_up), "1 when Redis answers"
        yield "backlog_entries", self.backlog_entries, "Stream entries that are not in PostgreSQL yet"
        yield "drain_lag_seconds", self.lag_seconds, "Seconds since a partition with a backlog was last drained"
        yield "lost_partitions", self.lost_partitions, "Partitions whose live counters wait to be rebuilt"
        yield "set_aside_messages", self.set_aside, "Messages set aside that nobody has decided on"
        yield "inbox_events", self.inbox, "Events that wait in PostgreSQL for Redis"
        yield "pending_corrections", self.corrections, "Corrections of live counters not applied yet"


def flow(session: Session, redis: Redis, *, now: datetime) -> Flow:
    """Never raises for a Redis that is away: that is one of the things it tells."""
    partitions = session.scalars(select(PartitionRow).order_by(PartitionRow.partition)).all()
    backlog, lag, lost, up = 0, 0.0, 0, True
    try:
        pipe = redis.pipeline(transaction=False)
        for partition in partitions:
            pipe.mget(scripts.prefix(partition.partition) + "gen", scripts.prefix(partition.partition) + "seq")
        answers = pipe.execute()
    except RedisError:
        answers, up = [], False
    for partition, (generation, sequence) in zip(partitions, answers, strict=False):
        waiting = int(sequence or 0) - partition.sequence
        if generation is None or int(generation) != partition.generation or waiting < 0:
            lost += 1
        elif waiting:
            backlog += waiting
            lag = max(lag, (now - partition.drained_at).total_seconds() if partition.drained_at else 0.0)
    return Flow(
        redis_up=up,
        backlog_entries=backlog,
        lag_seconds=lag,
        lost_partitions=lost,
        set_aside=_count(session, select(func.count()).where(SetAside.resolved_at.is_(None))),
        inbox=_count(session, select(func.count(Inbox.id))),
        corrections=_count(session, select(func.count(Correction.id))),
    )


def _count(session: Session, query: Select[int]) -> int:
    return session.scalar(query) or 0
