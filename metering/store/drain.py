"""The drain: usage from the streams into PostgreSQL, one transaction a batch.

Always holds: a partition is drained by one process at a time (its row is locked); events, rollups, corrections and
the partition's new offset commit together, so a kill at any point leaves either all of it or nothing, and what was not
committed is read again. The stream is trimmed up to the committed offset, never beyond.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, cast

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import delete, select, text
from sqlalchemy.orm import Session

from metering.errors import IntakeUnavailable
from metering.failpoints import visit
from metering.intake import scripts
from metering.models import Correction, PartitionRow
from metering.store.batch import Stored, set_aside, store_rows
from metering.store.lineage import is_lost
from metering.store.stream import Entry, Fault, Row, read_entries

RawEntries = list[tuple[bytes, dict[bytes, bytes]]]
"""What Redis answers to XRANGE."""

MAX_ROWS = 10_000
ENTRIES_AT_ONCE = 256
"""Of one partition in one pass: an entry holds up to fifty events."""

MAX_CORRECTIONS = 500


@dataclass(slots=True)
class Drained:
    """What one pass did. `lost` are partitions whose counters cannot be believed and must be rebuilt."""

    stored: Stored = field(default_factory=Stored)
    lost: list[int] = field(default_factory=list)
    busy: bool = False


def drain(session: Session, redis: Redis, *, now: datetime, most: int = MAX_ROWS) -> Drained:
    """Store what waits in the streams of all partitions that nobody else holds. The caller commits.

    Raises:
        IntakeUnavailable: Redis is away; nothing was changed.
    """
    drained = Drained()
    partitions = lock_partitions(session)
    if not partitions:
        return drained
    visit("drain.before_trim")
    try:
        apply_corrections(session, redis, [row.partition for row in partitions])
        waiting = _look(redis, partitions, drained)
        rows, faults, offsets = _read(redis, waiting, most)
    except RedisError as error:
        raise IntakeUnavailable("Redis did not answer") from error
    visit("drain.read")
    drained.stored = store_rows(session, rows)
    set_aside(session, [*faults, *drained.stored.faults])
    _move_offsets(session, offsets, now)
    drained.busy = bool(offsets)
    visit("drain.before_commit")
    return drained


def lock_partitions(session: Session, *, wait: bool = False) -> Sequence[PartitionRow]:
    """Take the partitions that nobody else holds (or all, if one may `wait`), until the transaction ends."""
    # Who was drained longest ago comes first, so that a busy partition starves none.
    order = (PartitionRow.partition,) if wait else (PartitionRow.drained_at.nulls_first(), PartitionRow.partition)
    query = select(PartitionRow).order_by(*order).with_for_update(skip_locked=not wait)
    return session.scalars(query.execution_options(populate_existing=True)).all()


def lock_partition(session: Session, partition: int) -> None:
    """Wait for one partition and hold it until the transaction ends: nobody drains it meanwhile."""
    session.execute(select(PartitionRow.partition).where(PartitionRow.partition == partition).with_for_update())


def apply_corrections(session: Session, redis: Redis, partitions: Sequence[int]) -> int:
    """Bring live counters to what earlier transactions committed. Applied once: Redis remembers the last of them."""
    rows = waiting_corrections(session, partitions)
    last = {
        partition: correct_live(redis, partition, [row for row in rows if row.partition == partition])
        for partition in {row.partition for row in rows}
    }
    # A level that a request has claimed waits for the next pass.
    applied = [row.id for row in rows if row.id <= last[row.partition]]
    if applied:
        session.execute(delete(Correction).where(Correction.id.in_(applied)))
    return len(applied)


class Waiting(NamedTuple):
    """A correction of a live counter; of a level where it names no period."""

    partition: int
    id: int
    customer: str
    period_id: int | None
    meter: str
    units: int


def waiting_corrections(session: Session, partitions: Sequence[int]) -> list[Waiting]:
    """In the order in which they are applied, so many as one pass takes; the first may have been applied before."""
    columns = (getattr(Correction, name) for name in Waiting._fields)
    query = select(*columns).where(Correction.partition.in_(partitions))
    return [Waiting(*row) for row in session.execute(query.order_by(Correction.id).limit(MAX_CORRECTIONS))]


def correct_live(redis: Redis, partition: int, corrections: Iterable[Waiting], *, claim: str = "") -> int:
    """Apply these to the live counters of one partition; the id of the last that was ever applied there."""
    arguments: list[Any] = [claim]
    for one in corrections:
        arguments += [one.id, one.customer, "" if one.period_id is None else one.period_id, one.meter, one.units]
    return int(scripts.run(redis, "correct", partition, *arguments))


def _look(redis: Redis, partitions: Sequence[PartitionRow], drained: Drained) -> list[PartitionRow]:
    """Find whose counters are not those we know and who has something waiting, and trim what is committed."""
    pipe = redis.pipeline(transaction=False)
    for row in partitions:
        pipe.mget(scripts.prefix(row.partition) + "gen", scripts.prefix(row.partition) + "seq")
    run = scripts.redis_run(redis)
    waiting = []
    trim = redis.pipeline(transaction=False)
    for row, state in zip(partitions, pipe.execute(), strict=True):
        if is_lost(row, run, state):
            drained.lost.append(row.partition)
            continue
        minid = f"{row.generation}-{row.sequence + 1}"
        trim.xtrim(scripts.prefix(row.partition) + "stream", minid=minid, approximate=False)
        if int(state[1] or 0) > row.sequence:
            waiting.append(row)
    trim.execute()
    return waiting


def _read(redis: Redis, waiting: Sequence[PartitionRow], most: int) -> tuple[list[Row], list[Fault], Mapping[int, int]]:
    """Rows of whole entries from the waiting partitions until there are `most`, and how far each was read."""
    rows: list[Row] = []
    faults: list[Fault] = []
    offsets: dict[int, int] = {}
    for row in waiting:
        if len(rows) >= most:
            break
        after = f"({row.generation}-{row.sequence}"
        answer = cast(RawEntries, redis.xrange(scripts.prefix(row.partition) + "stream", after, count=ENTRIES_AT_ONCE))
        found = read_entries(row.partition, row.generation, as_entries(answer), most=most - len(rows))
        rows += found[0]
        faults += found[1]
        if found[2] is not None:
            offsets[row.partition] = found[2]
    return rows, faults, offsets


def as_entries(answer: RawEntries) -> list[Entry]:
    """Redis' answer to XRANGE as (sequence, alternating fields)."""
    return [
        (int(entry_id.split(b"-")[1]), [part for pair in fields.items() for part in pair])
        for entry_id, fields in answer
    ]


def _move_offsets(session: Session, offsets: Mapping[int, int], now: datetime) -> None:
    if not offsets:
        return
    session.execute(
        text("""
            UPDATE partitions p SET sequence = o.sequence, drained_at = :now
            FROM unnest(CAST(:partitions AS smallint[]), CAST(:sequences AS bigint[])) AS o (partition, sequence)
            WHERE p.partition = o.partition
        """),
        {"partitions": list(offsets), "sequences": list(offsets.values()), "now": now},
    )
