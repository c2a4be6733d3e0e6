"""A subscription moves the billing periods of a customer; what was counted already goes with them."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, select

from metering.billing.periods import current_period, ensure_periods
from metering.billing.realign import hold_periods, lay
from metering.billing.rhythm import Cycle, stretches_until
from metering.clock import from_micros, to_micros
from metering.intake.scripts import prefix
from metering.models import Customer, Event
from metering.store.verify import verify
from tests.factories.world import START, World

NOVEMBER, DECEMBER, JANUARY = (datetime(2026 + month // 12, month % 12 + 1, 1, tzinfo=UTC) for month in (10, 11, 12))
ANCHOR = START - timedelta(minutes=7, seconds=30)
"""The subscription began a little before its message came: 11:52:30, in the middle of an hour."""

CYCLE = Cycle(ANCHOR, "1 month")


@pytest.fixture
def acme(world: World) -> Customer:
    return world.customer("acme", "free")


def subscribe(world: World, customer: Customer, start: datetime = ANCHOR, cycle: Cycle | None = CYCLE) -> bool:
    plan = "pro" if cycle else "free"
    hold_periods(world.session, customer, world.now)
    changed = lay(world.session, customer, stretches_until(start, plan, cycle, customer.timezone, world.now), world.now)
    world.session.commit()
    world.send()
    return changed


def at(world: World, moment: datetime, meter: str = "api_call", quantity: int = 1, **more: object) -> None:
    world.record(world.event("acme", meter, quantity, time=to_micros(moment), **more))


def spans(world: World) -> list[tuple[datetime, datetime, str]]:
    return [(one.starts_at, one.ends_at, one.plan) for one in world.periods()]


def agree(engine: Engine, world: World) -> None:
    world.session.commit()
    assert [(one.name, one.differences[:3], one.fault) for one in verify(engine, world.redis) if not one.holds] == []


def usage(world: World, meter: str = "api_call") -> list[int]:
    """What is counted live in each of the customer's periods, in order."""
    found = []
    for period in world.periods():
        units = world.redis.hget(f"{prefix(world.find('acme').partition)}u:acme:{period.id}", meter)
        found.append(int(units or 0))
    return found


def test_the_month_is_cut_where_the_subscription_begins(world: World, acme: Customer, engine: Engine) -> None:
    assert subscribe(world, acme)

    assert spans(world) == [
        (NOVEMBER, ANCHOR, "free"),
        (ANCHOR, datetime(2026, 12, 10, 11, 52, 30, tzinfo=UTC), "pro"),
        (datetime(2026, 12, 10, 11, 52, 30, tzinfo=UTC), datetime(2027, 1, 10, 11, 52, 30, tzinfo=UTC), "pro"),
    ]
    assert acme.plan == "pro"
    assert world.intake.standing("acme", ["api_call"], now=world.now).meters[0].limit == 100_000
    agree(engine, world)


def test_usage_after_the_start_counts_in_the_subscription_s_period(
    world: World, acme: Customer, engine: Engine
) -> None:
    """Given usage before and after the start, some of it stored, some not, when the periods move, then each unit counts
    in the period of its time: in PostgreSQL, in the live counters, and in the limit."""
    at(world, ANCHOR - timedelta(seconds=1), quantity=5, properties={"path": "/a"})
    at(world, ANCHOR, quantity=7, properties={"path": "/a"})
    at(world, ANCHOR + timedelta(seconds=1), quantity=11, properties={"path": "/b"})
    at(world, ANCHOR + timedelta(seconds=2), "storage_bytes", 1_000)
    world.drain()
    at(world, ANCHOR + timedelta(minutes=1), quantity=13)  # waits in the stream, counted in the old period

    subscribe(world, acme)
    at(world, world.now, quantity=17)
    world.drain()

    assert usage(world) == [5, 7 + 11 + 13 + 17, 0]
    assert world.used() == 48
    assert world.used("storage_bytes") == 1_000
    agree(engine, world)


def test_hours_of_levels_are_accrued_anew_in_both_periods(world: World, acme: Customer, engine: Engine) -> None:
    at(world, START - timedelta(hours=3), "storage_bytes", 1_000)
    at(world, START - timedelta(hours=3), "seats", 1, outright=True)
    world.advance(hours=5)
    world.drain()
    world.close_hours()

    subscribe(world, acme)
    world.close_hours()

    agree(engine, world)


def test_a_closed_period_stays_as_it_is(world: World, acme: Customer, engine: Engine) -> None:
    """Given a message that comes when the month it should cut is closed, then the cycle begins after that."""
    at(world, START + timedelta(hours=1), quantity=5)
    world.advance(days=24)
    world.drain()
    world.close_periods()

    subscribe(world, acme)

    assert spans(world)[:2] == [
        (NOVEMBER, DECEMBER, "free"),
        (DECEMBER, datetime(2026, 12, 10, 11, 52, 30, tzinfo=UTC), "pro"),
    ]
    assert usage(world)[0] == 5
    agree(engine, world)


def test_the_same_again_changes_nothing(world: World, acme: Customer) -> None:
    subscribe(world, acme)
    before, version = spans(world), acme.state_version

    assert not subscribe(world, acme)

    assert (spans(world), world.find("acme").state_version) == (before, version)


def test_periods_go_on_in_the_subscription_s_rhythm(world: World, acme: Customer) -> None:
    subscribe(world, acme)
    world.advance(days=40)

    ensure_periods(world.session, [acme], world.now)
    world.session.commit()

    assert [one.starts_at.day for one in world.periods()[1:]] == [10, 10, 10]
    assert current_period(world.session, acme.id, world.now).starts_at == datetime(2026, 12, 10, 11, 52, 30, tzinfo=UTC)


def test_an_end_leads_back_to_calendar_months(world: World, acme: Customer, engine: Engine) -> None:
    subscribe(world, acme)
    world.advance(days=2)
    at(world, world.now - timedelta(seconds=10), quantity=3)
    at(world, world.now, quantity=4)
    world.drain()

    subscribe(world, acme, start=world.now - timedelta(seconds=5), cycle=None)
    world.drain()

    assert spans(world)[1:] == [
        (ANCHOR, world.now - timedelta(seconds=5), "pro"),
        (world.now - timedelta(seconds=5), DECEMBER, "free"),
        (DECEMBER, JANUARY, "free"),
    ]
    assert usage(world) == [0, 3, 4, 0]
    agree(engine, world)


def test_a_call_that_began_before_the_cut_is_settled_in_the_period_of_its_time(
    world: World, acme: Customer, engine: Engine
) -> None:
    """Given a running call that was let in by the periods of before, when it ends after they moved, then its usage and
    its quota are where its time is."""
    held = world.reserve({"api_call": 1})

    subscribe(world, acme)
    world.settle(held, api_call=1)
    world.drain()

    assert usage(world) == [0, 1, 0]
    assert world.held() == 0
    agree(engine, world)


def test_a_subscription_older_than_the_customer_begins_its_first_period(
    world: World, acme: Customer, engine: Engine
) -> None:
    at(world, START, quantity=2)
    world.drain()
    october = datetime(2026, 10, 20, tzinfo=UTC)

    subscribe(world, acme, start=october, cycle=Cycle(october, "1 month"))
    world.drain()

    assert spans(world)[0] == (october, datetime(2026, 11, 20, tzinfo=UTC), "pro")
    assert usage(world) == [2, 0]
    agree(engine, world)


def test_late_events_stay_where_they_were_put(world: World, acme: Customer, engine: Engine) -> None:
    world.advance(days=24)
    world.close_periods()
    at(world, START, quantity=5)  # of November, which is closed
    world.drain()

    subscribe(world, acme, start=world.now - timedelta(hours=1), cycle=Cycle(world.now - timedelta(hours=1), "1 month"))
    world.drain()

    assert [event.late for event in world.session.scalars(select(Event))] == [True]
    assert usage(world)[:3] == [0, 5, 0]
    agree(engine, world)


def test_a_shorter_period_than_was_planned_gives_up_what_lies_beyond(
    world: World, acme: Customer, engine: Engine
) -> None:
    """Given periods that are planned ahead, when the anchor is reset, then what was used since counts anew."""
    subscribe(world, acme)
    world.advance(days=3)
    reset = from_micros(to_micros(world.now) - 60_000_000)
    at(world, reset - timedelta(seconds=1), quantity=2)
    at(world, reset, quantity=3)
    world.drain()

    subscribe(world, acme, start=reset, cycle=Cycle(reset, "1 month"))
    world.drain()

    assert usage(world) == [0, 2, 3, 0]
    agree(engine, world)


def test_whatever_happens_around_the_cut_every_unit_is_counted_once_where_its_time_lies(
    world: World, engine: Engine
) -> None:
    """Given usage of all kinds around cuts, when subscriptions begin, are reset and end in any order, then
    the books agree and nothing was lost or counted twice."""
    chance = random.Random(20261125)
    names = [f"c{number}" for number in range(12)]
    customers = {name: world.customer(name, "enterprise") for name in names}
    sent: Counter[str] = Counter()

    def use(name: str) -> None:
        moment = to_micros(world.now - timedelta(seconds=chance.uniform(0, 7200)))
        meter, quantity = chance.choice([("api_call", 3), ("tokens", 50), ("storage_bytes", 1000), ("seats", 1)])
        world.record(world.event(name, meter, quantity, time=moment, properties={"path": chance.choice("ab")}))
        if meter == "api_call":
            sent[name] += quantity

    def realign(name: str) -> None:
        start = world.now - timedelta(seconds=int(chance.uniform(0, 5400)))
        cycle = chance.choice([Cycle(start, "1 month"), Cycle(start, "1 week"), None])
        plan = "enterprise"
        hold_periods(world.session, customers[name], world.now)
        wanted = stretches_until(start, plan, cycle, "UTC", world.now)
        lay(world.session, customers[name], wanted, world.now)
        world.session.commit()

    for _ in range(240):
        name = chance.choice(names)
        match chance.randrange(8):
            case 0:
                realign(name)
                world.session.expire_all()
                world.send()
            case 1:
                world.drain()
            case 2:
                world.advance(minutes=chance.uniform(0, 90))
            case 3:
                world.close_hours()
            case _:
                use(name)
    world.drain()
    world.close_hours()

    agree(engine, world)
    assert {name: world.total("api_call", name) for name in names} == {name: sent[name] for name in names}
