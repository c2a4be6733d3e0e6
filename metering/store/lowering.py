"""Lowering a level by a correction while calls lower it, too: together they never bring it below zero.

What PostgreSQL knows of a level is older than what Redis knows, and a call asks Redis alone. So a correction that
lowers one claims it there (`intake/claims.py`), looks at what is left, and is applied as soon as it is committed: only
then may others move it again. A process that dies before that leaves it to the drain's next pass, as every correction.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from redis.exceptions import RedisError
from sqlalchemy import select
from sqlalchemy.event import listen
from sqlalchemy.orm import Session

from metering.errors import Conflict, IntakeUnavailable
from metering.intake import scripts
from metering.intake.admission import Intake
from metering.intake.claims import LevelClaim
from metering.intake.refusals import refusal
from metering.models import Customer, Event, Level, MeterRow
from metering.store.drain import correct_live, waiting_corrections


@contextmanager
def levels_kept(session: Session, intake: Intake, customer: Customer, events: Sequence[Event]) -> Iterator[None]:
    """Let the block move levels that these events moved, by corrections; the customer's partition is locked.

    Raises:
        Conflict: one would be lowered below zero, or further below.
        IntakeUnavailable: one would be lowered, and Redis does not say what is left of it.
    """
    meters = {event.meter_id for event in events if event.op in ("change", "set")}
    before = _levels(session, customer, meters)
    yield
    after = _levels(session, customer, meters)
    keys = {meter_id: session.get_one(MeterRow, meter_id).key for meter_id in meters}
    lowered = {keys[meter_id]: level for meter_id, level in after.items() if level < before[meter_id]}
    if not lowered:
        return
    _refuse_below_zero(lowered)
    claim = LevelClaim(intake, customer.partition, [(customer.key, meter) for meter in sorted(lowered)])
    claim.take()
    try:
        _refuse_below_zero(_live_levels(session, intake, customer, list(lowered)))
    except BaseException:
        claim.give_back()
        raise
    _apply_when_committed(session, intake, claim, customer.partition)


def _levels(session: Session, customer: Customer, meters: set[int]) -> dict[int, int]:
    query = select(Level.meter_id, Level.level).where(Level.customer_id == customer.id, Level.meter_id.in_(meters))
    return {row.meter_id: row.level for row in session.execute(query)}


def _refuse_below_zero(levels: Mapping[str, int]) -> None:
    for meter, level in levels.items():
        if level < 0:
            raise Conflict(
                f"{meter}: the level would fall below zero; void or correct what lowers it first", meter=meter
            )


def _live_levels(session: Session, intake: Intake, customer: Customer, meters: Sequence[str]) -> dict[str, int]:
    """Levels as Redis will know them once all corrections that are stored are applied."""
    prefix = scripts.prefix(customer.partition)
    pipe = intake.redis.pipeline(transaction=True)
    pipe.mget(prefix + "gen", prefix + "fixed")
    pipe.hmget(f"{prefix}l:{customer.key}", meters)
    try:
        (generation, fixed), counted = pipe.execute()
    except RedisError as error:
        raise IntakeUnavailable("Redis did not answer") from error
    if generation is None:
        raise refusal("outage", [])
    levels = {meter: int(level or 0) for meter, level in zip(meters, counted, strict=True)}
    for one in waiting_corrections(session, [customer.partition]):
        if one.id > int(fixed or 0) and one.period_id is None and one.customer == customer.key and one.meter in levels:
            levels[one.meter] += one.units
    return levels


def _apply_when_committed(session: Session, intake: Intake, claim: LevelClaim, partition: int) -> None:
    """The partition stays locked until the commit, so what waits by now is all that can wait before ours."""
    corrections = waiting_corrections(session, [partition])
    ended = False

    def keep(_: Session) -> None:
        if not ended:
            claim.require()

    def apply(_: Session) -> None:
        nonlocal ended
        if not ended:
            ended = True
            with suppress(IntakeUnavailable):  # then the drain does it
                correct_live(intake.redis, partition, corrections, claim=claim.id)
            claim.give_back()

    def forget(_: Session) -> None:
        nonlocal ended
        if not ended:
            ended = True
            claim.give_back()

    listen(session, "before_commit", keep, once=True)
    listen(session, "after_commit", apply, once=True)
    listen(session, "after_rollback", forget, once=True)
