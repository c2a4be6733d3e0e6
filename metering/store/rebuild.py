"""Rebuilding the live counters of a partition from PostgreSQL, exactly, after Redis lost them.

While it runs the partition has no generation key, so admission answers as in an outage. Whatever still stands in the
stream is stored first, without regard to the offset: identities see to it that nothing counts twice. The stream itself
is dropped only when that is committed, so a rebuild may be killed at any point and is simply begun anew.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import cast

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from metering.catalog import Catalog
from metering.catalog.aggregations import SUMMED
from metering.errors import IntakeUnavailable
from metering.failpoints import visit
from metering.intake import scripts
from metering.models import ApiKey, Correction, Customer, Level, MeterRow, PartitionRow, Period, PeriodTotal
from metering.store.batch import set_aside, store_rows
from metering.store.drain import RawEntries, as_entries
from metering.store.lineage import is_lost
from metering.store.state import send_customers, send_keys
from metering.store.stream import read_entries

READ_ENTRIES = 1_000
COUNTERS = ("u:", "l:", "h:", "r:", "z:", "c:", "k:")


def rebuild(
    session: Session, redis: Redis, catalog: Catalog, partition: int, *, now: datetime, force: bool = False
) -> int | None:
    """Rebuild one partition's Redis side; its new generation. Commit, then call `open_partition` with it.

    None: it is not lost (any more), for another process was faster; `force` rebuilds it all the same.

    Raises:
        IntakeUnavailable: Redis is away.
    """
    row = session.get_one(PartitionRow, partition, with_for_update=True, populate_existing=True)
    key = scripts.prefix(partition)
    try:
        run = scripts.redis_run(redis)
        if not force and not is_lost(row, run, redis.mget(key + "gen", key + "seq")):
            return None
        # Whoever rebuilt it before us may be about to open it: not in the midst of this, where counters are missing.
        redis.delete(key + "gen", key + "opening")
        try:
            _rebuild(session, redis, catalog, row, now)
        except BaseException:
            # Whoever has rebuilt it meanwhile, because we lost our lock with our connection, must do so again.
            redis.delete(key + "gen")
            raise
    except RedisError as error:
        raise IntakeUnavailable("Redis did not answer") from error
    row.redis_run = run
    visit("rebuild.before_commit")
    return row.generation


def open_partition(redis: Redis, partition: int, generation: int) -> bool:
    """Let admission in again, now that the new generation is committed; False: a later rebuild will.

    Raises:
        IntakeUnavailable: Redis is away; the next drain finds the partition lost, and it is rebuilt again.
    """
    return bool(scripts.run(redis, "open", partition, generation))


def _rebuild(session: Session, redis: Redis, catalog: Catalog, row: PartitionRow, now: datetime) -> None:
    partition, key = row.partition, scripts.prefix(row.partition)
    _store_what_is_left(session, redis, partition)
    _forget(redis, key)
    _restore_counters(session, redis, partition)
    newest = session.scalar(select(func.max(Correction.id)).where(Correction.partition == partition)) or 0
    session.execute(delete(Correction).where(Correction.partition == partition))
    row.generation += 1
    row.sequence = 0
    session.flush()
    redis.mset({key + "seq": 0, key + "fixed": newest, key + "opening": row.generation})
    _resend_state(session, redis, catalog, partition, now)


def _store_what_is_left(session: Session, redis: Redis, partition: int) -> None:
    after = "-"
    while answer := cast(RawEntries, redis.xrange(scripts.prefix(partition) + "stream", after, count=READ_ENTRIES)):
        for generation, entries in _by_generation(answer):
            rows, faults, _ = read_entries(partition, generation, as_entries(entries), most=1 << 30)
            stored = store_rows(session, rows, correct=False)
            set_aside(session, [*faults, *stored.faults])
        after = "(" + answer[-1][0].decode()


def _by_generation(answer: RawEntries) -> Iterable[tuple[int, RawEntries]]:
    groups: dict[int, RawEntries] = {}
    for entry in answer:
        groups.setdefault(int(entry[0].split(b"-")[0]), []).append(entry)
    return groups.items()


def _forget(redis: Redis, key: str) -> None:
    """Drop the partition's counters and state. The stream, remembered identities and stored answers stay."""
    names: list[str] = []
    for kind in COUNTERS:
        names += [name.decode() for name in redis.scan_iter(match=key + kind + "*", count=1_000)]
    for start in range(0, len(names), 1_000):
        redis.unlink(*names[start : start + 1_000])


def _restore_counters(session: Session, redis: Redis, partition: int) -> None:
    key = scripts.prefix(partition)
    usage = session.execute(
        select(Customer.key, Period.id, MeterRow.key, PeriodTotal.units)
        .join(PeriodTotal, PeriodTotal.customer_id == Customer.id)
        .join(Period, Period.id == PeriodTotal.period_id)
        .join(MeterRow, MeterRow.id == PeriodTotal.meter_id)
        .where(Customer.partition == partition, Period.closed_at.is_(None))
        .where(MeterRow.kind == "usage", MeterRow.aggregation.in_(SUMMED))
    )
    levels = session.execute(
        select(Customer.key, MeterRow.key, Level.level)
        .join(Level, Level.customer_id == Customer.id)
        .join(MeterRow, MeterRow.id == Level.meter_id)
        .where(Customer.partition == partition)
    )
    pipe = redis.pipeline(transaction=False)
    for customer, period_id, meter, units in usage:
        pipe.hset(f"{key}u:{customer}:{period_id}", meter, int(units))
    for customer, meter, level in levels:
        pipe.hset(f"{key}l:{customer}", meter, level)
    pipe.execute()


def _resend_state(session: Session, redis: Redis, catalog: Catalog, partition: int, now: datetime) -> None:
    customers: Sequence[Customer] = session.scalars(select(Customer).where(Customer.partition == partition)).all()
    send_customers(session, redis, catalog, customers, now=now)
    send_keys(session, redis, session.scalars(select(ApiKey).where(ApiKey.partition == partition)).all())
