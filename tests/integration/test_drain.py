"""The drain stores each event once and leaves live counters and PostgreSQL in agreement."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from metering.clock import to_micros
from metering.errors import InvalidUsage, UsageConflict
from metering.ids import partition_of
from metering.intake.scripts import prefix
from metering.models import Level, Period, Rollup, SetAside
from tests.factories.world import PARTITIONS, World


def test_usage_reaches_events_rollups_and_totals(world: World) -> None:
    world.customer()
    world.record(world.event(quantity=3), world.event(quantity=4), world.event(meter="tokens", quantity=50))

    drained = world.drain()

    assert drained.stored.fresh == 3
    assert world.total() == 7
    assert world.total("tokens") == 50
    assert world.used() == 7
    rollups = world.session.scalars(select(Rollup).order_by(Rollup.units)).all()
    assert [(int(rollup.units), rollup.events) for rollup in rollups] == [(7, 2), (50, 1)]


def test_the_same_event_twice_in_one_request_counts_once(world: World) -> None:
    world.customer()
    event = world.event(quantity=5)

    assert world.record(event, event) == 1
    assert world.record(event) == 0
    world.drain()

    assert world.total() == 5 == world.used()


def test_a_replay_that_redis_has_forgotten_is_taken_back_out_of_the_live_counter(world: World) -> None:
    world.customer()
    event = world.event(quantity=5)
    world.record(event)
    world.drain()
    forget_identities(world)

    world.record(event)
    assert world.used() == 10
    world.drain()

    assert world.total() == 5
    assert world.used() == 5


def test_a_replay_within_one_batch_of_the_drain_counts_once(world: World) -> None:
    world.customer()
    event = world.event(quantity=5)
    world.record(event)
    forget_identities(world)
    world.record(event)

    world.drain()

    assert world.total() == 5 == world.used()
    assert len(world.events()) == 1


def test_a_late_conflict_is_set_aside_and_taken_back(world: World) -> None:
    world.customer()
    world.record(world.event(quantity=5, id="same"))
    world.drain()
    forget_identities(world)

    world.record(world.event(quantity=6, id="same"))
    world.drain()

    assert world.total() == 5 == world.used()
    (kept,) = world.session.scalars(select(SetAside)).all()
    assert (kept.reason, kept.customer) == ("conflict", "acme")


def test_a_conflict_that_redis_remembers_is_refused(world: World) -> None:
    world.customer()
    world.record(world.event(quantity=5, id="same"))

    with pytest.raises(UsageConflict) as refused:
        world.record(world.event(quantity=1), world.event(quantity=6, id="same"))

    assert refused.value.facts["items"] == [1]
    assert world.used() == 5


def test_an_event_of_a_closed_period_counts_in_the_current_one_marked_late(world: World) -> None:
    customer = world.customer()
    november = world.session.scalars(select(Period).order_by(Period.starts_at)).first()
    assert november is not None
    world.advance(days=21, hours=1)  # December
    world.record(world.event(quantity=5, time=to_micros(november.ends_at - timedelta(hours=1))))
    november.closed_at = world.now
    world.session.commit()

    world.drain()

    (event,) = world.events()
    assert event.late
    assert event.period_id != november.id
    assert event.customer_id == customer.id
    assert world.used() == 5


def test_an_event_of_a_period_that_is_still_open_counts_there(world: World) -> None:
    world.customer()
    november = world.session.scalars(select(Period).order_by(Period.starts_at)).first()
    assert november is not None
    world.advance(days=21)
    world.send()
    world.record(world.event(quantity=5, time=to_micros(november.ends_at - timedelta(hours=1))))

    world.drain()

    (event,) = world.events()
    assert event.period_id == november.id
    assert not event.late
    assert world.used() == 0


def test_one_poisonous_message_is_set_aside_and_holds_up_nobody(world: World) -> None:
    world.customer()
    partition = partition_of("acme", PARTITIONS)
    world.record(world.event(quantity=1))
    key = prefix(partition)
    sequence = world.redis.incr(key + "seq")
    world.redis.xadd(key + "stream", {"0||0|": b"not json"}, id=f"{world.redis.get(key + 'gen').decode()}-{sequence}")
    world.record(world.event(quantity=2))

    world.drain()

    assert world.total() == 3 == world.used()
    (kept,) = world.session.scalars(select(SetAside)).all()
    assert (kept.reason, kept.message) == ("unreadable", b"not json")


def test_a_message_that_postgresql_refuses_is_set_aside_alone(world: World) -> None:
    world.customer()
    good = [world.event(quantity=1) for _ in range(5)]
    poison = world.event(quantity=7)._replace(properties="{no json")
    world.record(*good[:3], poison, *good[3:])
    assert world.used() == 12

    world.drain()

    assert world.total() == 5 == world.used()
    (kept,) = world.session.scalars(select(SetAside)).all()
    assert kept.reason == "refused"
    assert "json" in kept.detail


def test_levels_follow_sets_and_changes_in_the_order_of_their_time(world: World) -> None:
    world.customer()
    start = to_micros(world.now)
    minute = 60_000_000
    world.record(world.event(meter="storage_bytes", quantity=100, outright=True, time=start + 2 * minute))
    world.record(world.event(meter="storage_bytes", quantity=10, time=start + 3 * minute))
    world.record(world.event(meter="storage_bytes", quantity=-5, time=start + 1 * minute))  # before the set: no effect
    world.record(world.event(meter="storage_bytes", quantity=50, outright=True, time=start))  # late: no effect now
    assert world.used("storage_bytes") == 110

    world.drain()

    assert world.session.scalars(select(Level.level)).one() == 110
    assert world.used("storage_bytes") == 110


def test_a_late_set_that_matters_is_corrected_by_the_drain(world: World) -> None:
    world.customer()
    start = to_micros(world.now)
    world.record(world.event(meter="storage_bytes", quantity=10, time=start + 3_000_000))
    world.record(world.event(meter="storage_bytes", quantity=50, outright=True, time=start + 1_000_000))
    assert world.used("storage_bytes") == 10

    world.drain()

    assert world.used("storage_bytes") == 60
    assert world.session.scalars(select(Level.level)).one() == 60


def test_a_level_never_falls_below_zero(world: World) -> None:
    world.customer()
    world.record(world.event(meter="storage_bytes", quantity=10))

    with pytest.raises(InvalidUsage, match="below zero"):
        world.record(world.event(meter="storage_bytes", quantity=-4), world.event(meter="storage_bytes", quantity=-7))

    assert world.used("storage_bytes") == 10


def test_what_is_drained_is_trimmed_and_what_is_not_stays(world: World) -> None:
    world.customer()
    stream = prefix(partition_of("acme", PARTITIONS)) + "stream"
    world.record(world.event())
    world.drain()
    world.record(world.event())
    assert world.redis.xlen(stream) >= 1

    world.drain()
    world.drain()

    assert world.redis.xlen(stream) == 0


def forget_identities(world: World) -> None:
    """As if the remembered window had passed."""
    for name in world.redis.scan_iter(match="m:*:d:*"):
        world.redis.delete(name)
