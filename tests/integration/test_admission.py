"""The intake's scripts: admission is one step over all limits, and what is held comes free, whatever happens."""

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from sqlalchemy import select

from metering.accounts.customers import change_plan
from metering.embedded.redis_server import binary
from metering.errors import (
    BadQuantity,
    IntakeUnavailable,
    InvalidUsage,
    LimitExceeded,
    UnknownCustomer,
    UnknownMeter,
)
from metering.intake.scripts import prefix
from metering.intake.values import Ask
from metering.models import Event, MeterRow
from metering.settings import load_settings
from metering.store import inbox
from metering.store.state import touch
from tests.factories.catalogs import with_limit
from tests.factories.world import World

MAX = 2**53 - 1


# -- reserve, settle, release ------------------------------------------------------------------------------------


def test_a_reservation_holds_and_its_settlement_counts_what_was_used(world: World) -> None:
    world.customer()
    admission = world.reserve({"tokens": 500})
    assert (world.used("tokens"), world.held("tokens")) == (0, 500)

    settlement = world.settle(admission, tokens=42)

    assert not settlement.duplicate
    assert (settlement.meters[0].used, settlement.meters[0].held) == (42, 0)
    assert (world.used("tokens"), world.held("tokens")) == (42, 0)


def test_a_settlement_counts_once_however_often_it_is_sent(world: World) -> None:
    world.customer()
    admission = world.reserve({"api_call": 1})

    assert [world.settle(admission, api_call=1).duplicate for _ in range(3)] == [False, True, True]

    assert world.used() == 1
    world.drain()
    assert world.used() == 1 == world.total()


def test_a_released_reservation_consumes_nothing(world: World) -> None:
    world.customer()
    admission = world.reserve({"api_call": 5})

    world.intake.release(admission)
    world.intake.release(admission)

    assert (world.used(), world.held()) == (0, 0)


def test_nothing_is_held_where_nothing_is_reserved(world: World) -> None:
    world.customer()
    admission = world.reserve({"api_call": 1, "tokens": 0, "storage_bytes": 0})
    world.settle(admission, api_call=1, tokens=3, storage_bytes=4)

    assert (world.used(), world.used("tokens"), world.used("storage_bytes")) == (1, 3, 4)
    assert (world.held(), world.held("tokens"), world.held("storage_bytes")) == (0, 0, 0)


def test_used_and_held_together_never_pass_a_hard_limit(world: World) -> None:
    world.customer()
    world.record(world.event(quantity=600))
    world.reserve({"api_call": 399})
    world.reserve({"api_call": 1})

    with pytest.raises(LimitExceeded) as refused:
        world.reserve({"api_call": 1})

    assert refused.value.facts["remaining"] == 0
    assert world.held() == 400


def test_two_meters_are_held_both_or_neither(world: World) -> None:
    world.customer()

    with pytest.raises(LimitExceeded) as refused:
        world.reserve({"api_call": 1, "tokens": 10_001, "messages": 1})

    assert refused.value.facts["meter"] == "tokens"
    assert (world.held(), world.held("tokens"), world.held("messages")) == (0, 0, 0)
    world.reserve({"api_call": 1, "tokens": 10_000, "messages": 1})


def test_a_soft_limit_and_none_let_everything_through(world: World) -> None:
    world.catalog = with_limit(world.catalog, "free", api_call={"value": 1000, "mode": "soft"}, tokens=None)
    world.customer()

    world.settle(world.reserve({"api_call": 2000, "tokens": 10**9}), api_call=2000, tokens=10**9)

    standing = world.intake.standing("acme", ["api_call", "tokens"], now=world.now)
    assert [(one.mode, one.limit, one.used, one.remaining) for one in standing.meters] == [
        ("soft", 1000, 2000, 0),
        ("none", None, 10**9, None),
    ]


def test_a_limit_of_a_plan_changed_under_way_holds_for_the_next_call(world: World) -> None:
    customer = world.customer()
    world.record(world.event(quantity=1000))
    with pytest.raises(LimitExceeded):
        world.reserve({"api_call": 1})

    change_plan(world.session, load_settings(env="development"), world.catalog, customer, "pro", now=world.now)
    world.session.commit()
    world.send()

    assert world.reserve({"api_call": 1}).meters[0].limit == 100_000


def test_many_threads_share_a_limit_exactly(world: World) -> None:
    world.customer()
    intake, now = world.intake, world.now

    def ask(number: int) -> bool:
        partition = intake.partition("acme")
        try:
            intake.reserve(
                Ask(reserve={"api_call": 7}, customer="acme"), rid=f"t{number}", partition=partition, now=now
            )
        except LimitExceeded:
            return False
        return True

    with ThreadPoolExecutor(64) as pool:
        admitted = sum(pool.map(ask, range(300)))

    assert (admitted, world.held()) == (1000 // 7, 1000 // 7 * 7)


def test_a_meter_that_the_state_does_not_know_has_no_limit(world: World) -> None:
    """As one has that was added after the state was sent."""
    world.customer()
    late = world.catalog.meters["api_call"].model_copy(update={"key": "late", "event_type": "late"})
    world.catalog = world.catalog.model_copy(update={"meters": {**world.catalog.meters, "late": late}})

    settlement = world.settle(world.reserve({"late": 10**6, "api_call": 1}), late=10**6, api_call=1)
    world.record(world.event(meter="late", quantity=5), enforce=True)

    assert [(one.mode, one.limit, one.used, one.overshoot) for one in settlement.meters] == [
        ("none", None, 10**6, False),
        ("hard", 1000, 1, False),
    ]
    assert world.used("late") == 10**6 + 5


def test_strangers_are_refused(world: World) -> None:
    with pytest.raises(UnknownCustomer):
        world.reserve({"api_call": 1}, customer="nobody")
    world.customer()
    with pytest.raises(UnknownMeter):
        world.reserve({"nonsense": 1})


# -- leases ------------------------------------------------------------------------------------------------------


def test_quota_whose_process_died_is_free_after_its_lease(world: World) -> None:
    world.customer()
    world.reserve({"api_call": 1000})
    world.advance(seconds=29.9)
    with pytest.raises(LimitExceeded):
        world.reserve({"api_call": 1})

    world.advance(seconds=0.2)

    assert world.reserve({"api_call": 1000}).meters[0].held == 1000


def test_a_crowd_of_dead_reservations_comes_free_in_one_call(world: World) -> None:
    world.customer()
    for _ in range(1000):
        world.reserve({"api_call": 1})
    world.advance(seconds=31)

    world.reserve({"api_call": 1000})


def test_a_renewed_lease_holds_on(world: World) -> None:
    world.customer()
    admission = world.reserve({"api_call": 1000})
    for _ in range(5):
        world.advance(seconds=20)
        assert world.intake.renew(admission, now=world.now)
    with pytest.raises(LimitExceeded):
        world.reserve({"api_call": 1})

    world.advance(seconds=31)
    assert world.held() == 0
    assert not world.intake.renew(admission, now=world.now)


def test_a_settlement_after_expiry_is_recorded_while_there_is_room(world: World) -> None:
    world.customer()
    admission = world.reserve({"api_call": 400})
    world.advance(seconds=31)
    other = world.reserve({"api_call": 500})

    settlement = world.settle(admission, api_call=400)

    assert not settlement.meters[0].overshoot
    assert (world.used(), world.held()) == (400, 500)
    world.settle(other, api_call=500)
    world.drain()
    assert world.total() == 900
    assert not any(event.overshoot for event in world.events())


def test_a_settlement_after_expiry_that_passes_the_limit_is_recorded_and_flagged(world: World) -> None:
    world.customer()
    admission = world.reserve({"api_call": 600})
    world.advance(seconds=31)
    world.settle(world.reserve({"api_call": 1000}), api_call=1000)

    settlement = world.settle(admission, api_call=600)

    assert settlement.meters[0].overshoot
    world.drain()
    assert world.used() == 1600 == world.total()
    flagged = world.session.scalars(select(Event).where(Event.overshoot)).all()
    assert [event.units for event in flagged] == [600]


def test_more_than_was_reserved_is_flagged_only_past_the_limit(world: World) -> None:
    world.customer()
    inside = world.settle(world.reserve({"tokens": 10}), tokens=5_000)
    outside = world.settle(world.reserve({"tokens": 10}), tokens=5_001)

    assert (inside.meters[0].overshoot, outside.meters[0].overshoot) == (False, True)


# -- periods and levels ------------------------------------------------------------------------------------------


def test_a_period_ends_without_any_job_and_levels_carry_over(world: World) -> None:
    world.customer()
    world.record(world.event(quantity=1000), world.event(meter="storage_bytes", quantity=70))

    world.advance(days=21)

    admission = world.reserve({"api_call": 1000, "storage_bytes": 1})
    assert [(one.used, one.held) for one in admission.meters] == [(0, 1000), (70, 1)]
    assert admission.period.starts_at <= world.now < admission.period.ends_at


def test_a_call_that_outlives_its_period_counts_in_the_one_that_admitted_it(world: World) -> None:
    world.customer()
    world.advance(days=20, hours=11, minutes=59, seconds=50)
    admission = world.reserve({"api_call": 3})
    world.advance(seconds=20)

    event = world.event(quantity=3, source="call", admitted=admission.admitted)
    world.intake.settle(admission, [event], now=world.now)

    assert (world.used(), world.held()) == (0, 0)
    world.drain()
    (stored,) = world.events()
    assert stored.period_id == admission.period.id
    assert stored.time < world.now


def test_the_next_periods_limits_are_those_of_its_plan(world: World) -> None:
    customer = world.customer()
    world.periods()[1].plan = "pro"
    touch(world.session, [customer.id])
    world.session.commit()
    world.send()

    assert world.reserve({"api_call": 1}).meters[0].limit == 1000
    world.advance(days=21)
    assert world.reserve({"api_call": 1}).meters[0].limit == 100_000


def test_past_the_known_periods_nobody_guesses(world: World) -> None:
    world.customer()
    world.advance(days=60)

    with pytest.raises(IntakeUnavailable):
        world.reserve({"api_call": 1})


def test_a_level_is_held_across_the_end_of_a_period(world: World) -> None:
    world.customer()
    world.advance(days=20, hours=11, minutes=59, seconds=50)
    admission = world.reserve({"storage_bytes": 50})
    world.advance(seconds=20)
    assert world.held("storage_bytes") == 50

    world.settle(admission, storage_bytes=50)

    assert (world.used("storage_bytes"), world.held("storage_bytes")) == (50, 0)


def test_a_settlement_that_would_take_a_level_below_zero_is_refused(world: World) -> None:
    world.customer()
    admission = world.reserve({"api_call": 1, "storage_bytes": 0})

    with pytest.raises(InvalidUsage, match="below zero"):
        world.settle(admission, api_call=1, storage_bytes=-1)

    assert (world.used(), world.used("storage_bytes")) == (0, 0)


def test_a_settlement_that_would_pass_what_can_be_counted_is_refused_before_anything_is_written(world: World) -> None:
    world.customer(plan="enterprise")
    admission = world.reserve({"api_call": 1, "tokens": 5, "storage_bytes": 5})
    world.record(world.event(meter="tokens", quantity=MAX - 1), world.event(meter="storage_bytes", quantity=MAX - 1))

    for used in ({"tokens": 2}, {"storage_bytes": 2}):
        with pytest.raises(InvalidUsage, match=r"2\^53") as refused:
            world.settle(admission, api_call=1, **used)
        assert refused.value.facts["meter"] in used
    assert (world.used(), world.used("tokens"), world.held(), world.held("tokens")) == (0, MAX - 1, 1, 5)

    world.settle(admission, api_call=1, tokens=1, storage_bytes=1)
    world.drain()
    assert (world.total(), world.total("tokens"), world.used("storage_bytes")) == (1, MAX, MAX)


# -- numbers -----------------------------------------------------------------------------------------------------


def test_counts_are_exact_up_to_two_to_the_53(world: World) -> None:
    world.customer(plan="enterprise")
    world.record(world.event(quantity=MAX - 1))
    assert world.used() == MAX - 1

    with pytest.raises(InvalidUsage, match=r"2\^53"):
        world.reserve({"api_call": 2})
    world.settle(world.reserve({"api_call": 1}), api_call=1)

    assert world.used() == MAX
    world.drain()
    assert world.total() == MAX
    with pytest.raises(InvalidUsage, match=r"2\^53"):
        world.record(world.event(quantity=1))
    with pytest.raises(BadQuantity):
        world.event(quantity=MAX + 1)


def test_large_holds_are_exact(world: World) -> None:
    world.customer(plan="enterprise")
    first = world.reserve({"api_call": MAX - 7})
    world.reserve({"api_call": 7})
    assert world.held() == MAX

    world.intake.release(first)

    assert world.held() == 7


# -- events with limits ------------------------------------------------------------------------------------------


def test_an_enforced_record_respects_what_is_held_until_its_lease_ends(world: World) -> None:
    world.customer()
    world.reserve({"api_call": 1000})
    with pytest.raises(LimitExceeded):
        world.record(world.event(quantity=1), enforce=True)
    assert world.record(world.event(quantity=1)) == 1, "a fact is recorded whatever the limit"

    world.advance(seconds=31)

    assert world.record(world.event(quantity=999), enforce=True) == 1
    with pytest.raises(LimitExceeded):
        world.record(world.event(quantity=1), enforce=True)


# -- usage that passes a hard limit is recorded and flagged ---------------------------------------------------------


def flagged(world: World) -> list[tuple[str, int, bool]]:
    """What was recorded, drained into PostgreSQL: meter, units, overshoot; in the order of the stream."""
    world.drain()
    rows = world.session.execute(
        select(MeterRow.key, Event.units, Event.overshoot)
        .join(MeterRow, MeterRow.id == Event.meter_id)
        .order_by(Event.position, Event.item)
    ).all()
    world.session.commit()
    return [(row.key, row.units, row.overshoot) for row in rows]


def test_recorded_usage_that_passes_a_hard_limit_is_flagged(world: World) -> None:
    world.customer()

    world.record(world.event(quantity=999), world.event(quantity=1), world.event(quantity=0))
    world.record(world.event(quantity=1), world.event(quantity=0), world.event(meter="tokens", quantity=10_000))

    assert world.used() == 1001
    assert flagged(world) == [
        ("api_call", 999, False),
        ("api_call", 1, False),
        ("api_call", 0, False),
        ("api_call", 1, True),
        ("api_call", 0, False),
        ("tokens", 10_000, False),
    ]


def test_what_running_calls_hold_is_theirs_until_their_lease_ends(world: World) -> None:
    world.customer()
    world.reserve({"api_call": 999})
    world.record(world.event(quantity=1), world.event(quantity=1))
    world.advance(seconds=31)
    world.record(world.event(quantity=998), world.event(quantity=1))

    assert [overshoot for *_, overshoot in flagged(world)] == [False, True, False, True]


def test_a_level_is_flagged_when_it_rises_past_its_limit(world: World) -> None:
    world.customer()  # on free: one seat

    for quantity, more in [(1, {}), (1, {}), (-1, {}), (3, {"outright": True}), (2, {"outright": True})]:
        world.record(world.event(meter="seats", quantity=quantity, **more))
        world.advance(seconds=1)

    assert [overshoot for *_, overshoot in flagged(world)] == [False, True, False, True, False]


def test_a_repetition_a_soft_limit_and_none_are_never_flagged(world: World) -> None:
    world.catalog = with_limit(world.catalog, "free", tokens={"value": 10, "mode": "soft"}, messages=None)
    world.customer()
    event = world.event(quantity=1000)

    world.record(event, world.event(meter="tokens", quantity=11), world.event(meter="messages", quantity=10**9))
    assert world.record(event) == 0

    assert [overshoot for *_, overshoot in flagged(world)] == [False, False, False]


def test_late_usage_of_a_past_period_has_no_limit_to_pass(world: World) -> None:
    customer = world.customer()
    before = world.event(quantity=1001)
    world.advance(days=21)
    touch(world.session, [customer.id])
    world.session.commit()
    world.send()

    world.record(before, world.event(quantity=1001))

    assert [overshoot for *_, overshoot in flagged(world)] == [False, True]


def test_usage_that_the_inbox_kept_is_flagged_when_it_is_fed(world: World) -> None:
    world.customer()
    inbox.put(world.session, world.intake, [world.event(quantity=600), world.event(quantity=600)])
    inbox.feed(world.session, world.intake, now=world.now, identity_window_seconds=3600)
    world.session.commit()

    assert flagged(world) == [("api_call", 600, False), ("api_call", 600, True)]


# -- a Redis that is killed --------------------------------------------------------------------------------------


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator["KillableRedis"]:
    server = KillableRedis(tmp_path)
    yield server
    server.kill()


class KillableRedis:
    """A Redis of the test's own, with the settings the product asks for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.start()

    def start(self) -> None:
        socket = self._folder / "r.sock"
        socket.unlink(missing_ok=True)
        options = {"port": "0", "unixsocket": str(socket), "dir": str(self._folder), "save": ""}
        options |= {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
        command = [str(binary().path), *(part for name, value in options.items() for part in (f"--{name}", value))]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.client = Redis(unix_socket_path=str(socket), retry=Retry(NoBackoff(), 0))
        while not self._answers():
            assert self.process.poll() is None, "Redis ended at its start"

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except RedisError:
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)
        self.client.close()


def test_what_was_settled_survives_a_killed_redis_and_what_was_held_may_be_lost(
    world: World, own_redis: KillableRedis
) -> None:
    world.redis = own_redis.client
    for number in range(4):
        world.rebuild(number)
    world.customer()
    settled = world.reserve({"api_call": 100, "tokens": 50})
    running = world.reserve({"api_call": 30})
    world.settle(settled, api_call=90, tokens=40)
    world.record(world.event(quantity=5))

    own_redis.kill()
    own_redis.start()
    world.redis = own_redis.client

    assert (world.used(), world.used("tokens")) == (95, 40)
    assert world.held() == 0, "reservations are not written to disk"
    assert not world.settle(running, api_call=25).duplicate
    assert world.settle(settled, api_call=90, tokens=40).duplicate
    assert (world.used(), world.held()) == (120, 0)
    assert sorted(world.rebuild_lost()) == [0, 1, 2, 3], "each new run of Redis is looked through"
    assert (world.used(), world.held()) == (120, 0)
    world.drain()
    assert (world.total(), world.total("tokens")) == (120, 40)


def test_holds_that_a_rewritten_log_brings_back_expire(world: World, own_redis: KillableRedis) -> None:
    """A rewrite of the append-only file saves what is held just then; released since, it must not hold for ever."""
    world.redis = own_redis.client
    for number in range(4):
        world.rebuild(number)
    world.customer()
    admission = world.reserve({"api_call": 1000})
    own_redis.client.bgrewriteaof()
    while own_redis.client.info("persistence")["aof_rewrite_in_progress"]:
        pass
    world.intake.release(admission)

    own_redis.kill()
    own_redis.start()
    world.redis = own_redis.client

    assert world.held() == 1000
    world.advance(seconds=31)
    assert world.held() == 0
    world.reserve({"api_call": 1000})


def test_without_its_generation_nothing_is_answered(world: World) -> None:
    world.customer()
    admission = world.reserve({"api_call": 1})
    world.redis.delete(prefix(world.intake.partition("acme")) + "gen")

    with pytest.raises(IntakeUnavailable):
        world.reserve({"api_call": 1})
    with pytest.raises(IntakeUnavailable):
        world.settle(admission, api_call=1)
    with pytest.raises(IntakeUnavailable):
        world.record(world.event())
