"""Proof that the books agree, on live data: `flask metering verify`.

All checks see PostgreSQL in one REPEATABLE READ snapshot. Drains are held up only while that snapshot is taken and the
live counters are read; usage is admitted all the while.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Connection, Engine, select, text
from sqlalchemy.orm import Session

from metering.errors import IntakeUnavailable
from metering.intake import scripts
from metering.models import Correction, Customer, PartitionRow, Period
from metering.store.drain import RawEntries, lock_partitions
from metering.store.lineage import is_lost
from metering.store.sql import statement
from metering.store.stream import decode

MOST = 50
CUSTOMERS_AT_ONCE = 200

BOOKS = {
    "identities": "every event was stored once, under one identity",
    "rollups": "rollups are what the events add up to",
    "totals": "totals are what the rollups add up to",
    "levels": "levels are what their events fold to",
    "accruals": "each hour of a level costs what its events say",
    "coverage": "every hour of a level that is accrued has its accrual, and no other",
    "periods": "periods leave no gap and hold only their own events",
    "ledger": "what was reported is the sum of the report rows",
    "owed": "what is stored is reported to Stripe, or noted to be",
    "subscriptions": "no customer's usage is billed by two subscriptions",
}
LIVE = "live counters are PostgreSQL plus the stream that is not drained yet"

Place = tuple[str, str, int | None]
"""Customer, meter, and the period's id (None for a level)."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two books disagree, and by how much, in scaled units."""

    customer: str
    meter: str | None
    detail: str
    expected: Decimal
    actual: Decimal


@dataclass(frozen=True, slots=True)
class Unseen:
    """What of a customer could not be looked at, and what to do about it."""

    customer: str
    detail: str


@dataclass(frozen=True, slots=True)
class Check:
    """What was not looked at is not proved: `fault` says why nobody could look, `unseen` at whom."""

    name: str
    claim: str
    differences: tuple[Difference, ...]
    fault: str | None = None
    unseen: tuple[Unseen, ...] = ()

    @property
    def holds(self) -> bool:
        return not self.differences and not self.unseen and self.fault is None


@dataclass(frozen=True, slots=True)
class _Live:
    """The live side at one moment: counters, what of them is still in the stream, and corrections yet to come.

    `open_periods` are those whose counters were read: what waits for one that is closed already changes none of them.
    """

    counters: dict[Place, int]
    open_periods: set[int]
    undrained: Counter[Place]
    lost: tuple[int, ...]


def verify(engine: Engine, redis: Redis) -> list[Check]:
    """All checks, in a fixed order; each names up to fifty differences. Raises IntakeUnavailable."""
    with engine.connect() as snapshot:
        snapshot = snapshot.execution_options(isolation_level="REPEATABLE READ")
        with Session(engine) as holder, snapshot.begin():
            lock_partitions(holder, wait=True)
            snapshot.execute(text("SELECT 1"))  # the snapshot is taken here, and no drain can move on meanwhile
            live = _read_live(snapshot, redis)
            holder.rollback()
            checks = [Check(name, claim, _book(snapshot, name)) for name, claim in BOOKS.items()]
            checks.append(Check("live", LIVE, tuple(_compare_live(snapshot, live))[:MOST]))
    return checks


def _book(snapshot: Connection, name: str) -> tuple[Difference, ...]:
    rows = snapshot.execute(statement(f"verify/{name}"), {"most": MOST})
    return tuple(
        Difference(row.customer or "?", row.meter, row.detail, Decimal(row.expected or 0), Decimal(row.actual or 0))
        for row in rows
    )


def _compare_live(snapshot: Connection, live: _Live) -> Iterable[Difference]:
    for partition in live.lost:
        yield Difference("?", None, f"partition {partition} waits to be rebuilt", Decimal(0), Decimal(1))
    expected: Counter[Place] = Counter(live.undrained)
    for row in snapshot.execute(statement("verify/stored_live")):
        if row.partition not in live.lost:
            expected[row.customer, row.meter, row.period_id] += int(row.units)
    for place in sorted(expected.keys() | live.counters.keys(), key=str):
        wanted, found = expected[place], live.counters.get(place, 0)
        if wanted != found and (place[2] is None or place[2] in live.open_periods):
            where = "level" if place[2] is None else f"period {place[2]}"
            yield Difference(place[0], place[1], where, Decimal(wanted), Decimal(found))


def _read_live(snapshot: Connection, redis: Redis) -> _Live:
    counters: dict[Place, int] = {}
    undrained: Counter[Place] = Counter()
    open_periods: set[int] = set()
    lost = []
    rows = Session(snapshot).scalars(select(PartitionRow)).all()
    try:
        run = scripts.redis_run(redis)
        for row in rows:
            pairs = _open_periods(snapshot, row.partition)
            open_periods.update(period for _, period in pairs)
            if not _read_partition(snapshot, redis, row, run, pairs, counters, undrained):
                lost.append(row.partition)
    except RedisError as error:
        raise IntakeUnavailable("Redis did not answer") from error
    return _Live(counters, open_periods, undrained, tuple(lost))


def _read_partition(
    snapshot: Connection,
    redis: Redis,
    row: PartitionRow,
    run: str,
    pairs: Sequence[tuple[str, int]],
    counters: dict[Place, int],
    undrained: Counter[Place],
) -> bool:
    """Read one partition's counters and what follows the offset; False when its counters cannot be believed."""
    partition, key = row.partition, scripts.prefix(row.partition)
    if is_lost(row, run, redis.mget(key + "gen", key + "seq")):
        return False
    seen: dict[str, int] = {}
    for customers in _batches(pairs):
        last = _read_counters(redis, key, customers, counters)
        seen.update(dict.fromkeys({customer for customer, _ in customers}, last))
    entries = cast(RawEntries, redis.xrange(key + "stream", min=f"({row.generation}-{row.sequence}"))
    for entry_id, fields in entries:
        number = int(entry_id.split(b"-")[1])
        for item, (decision, message) in enumerate(fields.items()):
            place, effect = _effect(partition, number, item, decision, message)
            if place is not None and number <= seen.get(place[0], 0):
                undrained[place] += effect
    fixed = int(redis.get(key + "fixed") or 0)
    # A correction that is not applied yet: the counter still lacks it.
    pending = snapshot.execute(
        select(Correction.customer, Correction.meter, Correction.period_id, Correction.units).where(
            Correction.partition == partition, Correction.id > fixed
        )
    )
    for one in pending:
        undrained[one.customer, one.meter, one.period_id] -= one.units
    return True


def _effect(partition: int, number: int, item: int, decision: bytes, message: bytes) -> tuple[Place | None, int]:
    try:
        row = decode(partition, number, item, decision, message)
    except (ValueError, TypeError):
        return None, 0  # unreadable: it counted nowhere, and the drain will set it aside
    return (row.customer, row.meter, row.period), row.effect


def _open_periods(snapshot: Connection, partition: int) -> Sequence[tuple[str, int]]:
    query = (
        select(Customer.key, Period.id)
        .join(Period, Period.customer_id == Customer.id)
        .where(Customer.partition == partition, Period.closed_at.is_(None))
        .order_by(Customer.key, Period.id)
    )
    return [(row[0], row[1]) for row in snapshot.execute(query)]


def _batches(pairs: Sequence[tuple[str, int]]) -> Iterable[list[tuple[str, int]]]:
    """Runs of whole customers, so that one customer's counters are read at one moment."""
    batch: list[tuple[str, int]] = []
    for pair in pairs:
        if len(batch) >= CUSTOMERS_AT_ONCE and pair[0] != batch[-1][0]:
            yield batch
            batch = []
        batch.append(pair)
    if batch:
        yield batch


def _read_counters(redis: Redis, key: str, pairs: Sequence[tuple[str, int]], counters: dict[Place, int]) -> int:
    """Read these customers' counters and the sequence they stand at, in one transaction; that sequence."""
    customers = sorted({customer for customer, _ in pairs})
    pipe = redis.pipeline(transaction=True)
    pipe.get(key + "seq")
    for customer, period_id in pairs:
        pipe.hgetall(f"{key}u:{customer}:{period_id}")
    for customer in customers:
        pipe.hgetall(f"{key}l:{customer}")
    last, *answers = pipe.execute()
    for (customer, period_id), usage in zip(pairs, answers, strict=False):
        counters.update({(customer, meter.decode(), period_id): int(units) for meter, units in usage.items()})
    for customer, level in zip(customers, answers[len(pairs) :], strict=True):
        marks = {meter.decode(): int(units) for meter, units in level.items()}
        counters.update({(customer, name, None): units for name, units in marks.items() if name[-1] not in "@~"})
    return int(last or 0)


def as_json(checks: Sequence[Check]) -> dict[str, Any]:
    """What `verify --json` prints."""
    return {
        "holds": all(check.holds for check in checks),
        "checks": [
            {
                "check": check.name,
                "claim": check.claim,
                "holds": check.holds,
                "fault": check.fault,
                "differences": [
                    {
                        "customer": one.customer,
                        "meter": one.meter,
                        "detail": one.detail,
                        "expected": one.expected,
                        "actual": one.actual,
                        "by": one.actual - one.expected,
                    }
                    for one in check.differences
                ],
                "not_looked_at": [{"customer": one.customer, "detail": one.detail} for one in check.unseen],
            }
            for check in checks
        ],
    }
