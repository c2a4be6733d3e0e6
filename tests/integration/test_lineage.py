"""Whatever became of Redis, and however many processes mend it at once: what was acknowledged is stored, once."""

import random
import string
import threading

import orjson
import pytest
from redis import Redis
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from metering.errors import IntakeUnavailable
from metering.ids import partition_of
from metering.intake.event import group_of
from metering.intake.scripts import prefix
from metering.keeper import Keeper
from metering.models import SetAside
from metering.service import Metering
from metering.store import rebuild as rebuilding
from metering.store.rebuild import open_partition, rebuild
from metering.store.verify import verify
from tests.factories.world import PARTITIONS, World

ACME = partition_of("acme", PARTITIONS)
KEY = prefix(ACME)


def test_a_redis_restored_from_an_older_copy_loses_nothing_that_it_acknowledges(world: World, engine: Engine) -> None:
    """Given three entries that are drained, when Redis comes back with the first alone and takes five more."""
    world.customer()
    for _ in range(3):
        world.record(world.event(quantity=10))
    world.drain()
    world.redis.set(KEY + "seq", 1)
    world.redis.delete(KEY + "stream")
    world.redis.hset(next(iter(world.redis.scan_iter(match="m:*:u:acme:*"))), "api_call", 10)
    world.session.execute(text("UPDATE partitions SET redis_run = 'the run before'"))
    world.session.commit()
    for _ in range(5):
        world.record(world.event(quantity=1))  # their numbers begin again below the stored offset

    assert sorted(world.rebuild_lost()) == [0, 1, 2, 3]
    world.drain()

    assert world.total() == 35 == world.used()
    assert [check.name for check in verify(engine, world.redis) if not check.holds] == []


def test_of_two_processes_that_rebuild_at_once_the_slower_one_does_no_harm(world: World) -> None:
    """Given a rebuild that is committed but not opened, when another one is faster and usage comes in."""
    world.customer()
    world.redis.delete(KEY + "gen")
    slower = rebuild(world.session, world.redis, world.catalog, ACME, now=world.now)
    world.session.commit()
    assert slower is not None
    world.rebuild_lost()
    world.record(world.event(quantity=5))

    assert not open_partition(world.redis, ACME, slower)
    world.drain()

    assert world.total() == 5 == world.used()


def test_nobody_opens_a_partition_that_another_is_rebuilding(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a rebuild that is committed, when it is opened while another one has dropped the counters."""
    world.customer()
    world.redis.delete(KEY + "gen")
    slower = rebuild(world.session, world.redis, world.catalog, ACME, now=world.now)
    world.session.commit()
    assert slower is not None
    forget, opened = rebuilding._forget, []

    def forget_and_meet_the_slower_one(redis: Redis, key: str) -> None:
        forget(redis, key)
        opened.append(open_partition(redis, ACME, slower))

    monkeypatch.setattr(rebuilding, "_forget", forget_and_meet_the_slower_one)
    world.rebuild(ACME)

    assert opened == [False]
    assert world.record(world.event(quantity=5)) == 1


def test_a_partition_that_is_not_lost_is_left_alone(world: World) -> None:
    assert rebuild(world.session, world.redis, world.catalog, ACME, now=world.now) is None


def test_keepers_that_mend_side_by_side_lose_no_usage(world: World, metering: Metering) -> None:
    """Three keepers, and a partition that is found lost again and again while usage comes in."""
    world.customer()
    keepers = [Keeper(metering.runtime) for _ in range(3)]
    threads = [threading.Thread(target=keeper.run) for keeper in keepers]
    for thread in threads:
        thread.start()
    acknowledged = 0
    try:
        for number in range(400):
            if number % 40 == 0:
                world.redis.delete(KEY + "gen")
            acknowledged += record_when_open(world)
    finally:
        for keeper in keepers:
            keeper.stop()
        for thread in threads:
            thread.join(30)
    world.rebuild_lost()
    world.drain()

    assert acknowledged == 400
    assert world.total() == 400 == world.used()


def record_when_open(world: World) -> int:
    while True:
        try:
            return world.record(world.event(quantity=1))
        except IntakeUnavailable:
            continue


def test_usage_that_never_ends_holds_up_neither_state_nor_inbox(world: World, metering: Metering) -> None:
    customer = world.customer()
    keeper = Keeper(metering.runtime)
    keeper.drain_once = lambda: 1  # type: ignore[method-assign]  # a drain that always has something to do
    thread = threading.Thread(target=keeper.run)
    thread.start()
    try:
        customer.status = "suspended"
        customer.state_version += 1
        world.session.commit()
        seen = threading.Event()
        for _ in range(100):
            if world.redis.hget(KEY + "c:acme", "s") == b"suspended":
                break
            seen.wait(0.05)
        else:
            raise AssertionError("the state was never sent")
    finally:
        keeper.stop()
        thread.join(30)


@pytest.mark.parametrize("field", [2, 3, 8, 9, 11, 12])
def test_a_forged_entry_is_set_aside_whatever_stands_in_it(world: World, field: int) -> None:
    world.customer()
    message = orjson.loads(world.event().message())
    message[field] = 7
    sequence = world.redis.incr(KEY + "seq")
    generation = world.redis.get(KEY + "gen").decode()
    world.redis.xadd(KEY + "stream", {"0||0|": orjson.dumps(message)}, id=f"{generation}-{sequence}")
    world.record(world.event(quantity=2))

    world.drain()

    assert world.total() == 2
    assert world.session.scalars(select(SetAside.reason)).all() == ["unreadable"]


def test_a_row_that_no_index_can_hold_is_set_aside_alone(world: World, engine: Engine) -> None:
    world.customer()
    chance = random.Random(1)
    poison = world.event(quantity=7)._replace(grp="".join(chance.choices(string.printable[:90], k=20_000)))
    world.record(world.event(quantity=1), poison, world.event(quantity=2))

    world.drain()

    assert world.total() == 3 == world.used()
    with Session(engine) as session:
        assert session.scalars(select(SetAside.reason)).all() == ["refused"]


def test_long_group_values_are_counted_in_a_group_of_their_own(world: World) -> None:
    meter = world.catalog.meters["api_call"].model_copy(update={"group_by": {f"p{n}": f"$.p{n}" for n in range(9)}})
    values = {f"p{n}": "ü" * 5_000 for n in range(9)}

    assert len(group_of(meter, values).encode()) <= 1_600
    assert group_of(meter, values) != group_of(meter, values | {"p0": "other"})
