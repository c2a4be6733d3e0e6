"""What levels cost by the hour: closed exactly once, whatever comes late, and side by side with the drain."""

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Event as Flag

import pytest
from sqlalchemy import Engine, delete, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from metering.clock import to_micros
from metering.intake.values import Span
from metering.models import Accrual, Customer, Event, Level, Period
from metering.store.accruals import accrued, close_hours
from metering.store.batch import fold_levels
from metering.store.drain import drain, lock_partition
from metering.store.levels import Change, HourAccrual, Opening, accrue
from metering.store.meters import meter_ids
from tests.factories.world import START, World

GIB = 1024**3
HOUR = 3_600
DAY = 24 * HOUR
STORAGE, SEATS = "storage_bytes", "seats"


def test_ten_idle_days_of_storage_show_before_and_after_their_hours_are_closed(world: World) -> None:
    customer = world.customer()
    put(world, STORAGE, 10 * GIB)
    world.drain()
    world.advance(days=10)

    assert accrued_now(world, customer) == {STORAGE: 10 * GIB * 10 * DAY}
    assert world.close_hours() == 1

    assert accrued_now(world, customer) == {STORAGE: 10 * GIB * 10 * DAY}
    hours = accruals(world)
    assert [hour.hour for hour in hours] == [START + timedelta(hours=number) for number in range(240)]
    assert {(hour.units, hour.closing, hour.peak) for hour in hours} == {(10 * GIB * HOUR, 10 * GIB, 10 * GIB)}
    level = world.session.scalars(select(Level)).one()
    assert (level.opening, level.accrued_until) == (10 * GIB, world.now)


def test_an_hour_is_closed_only_after_the_delay_for_late_usage(world: World) -> None:
    world.customer()
    put(world, STORAGE, 5)
    world.drain()
    world.advance(hours=2, minutes=9)

    assert world.close_hours(settle_seconds=600) == 1
    assert [hour.hour for hour in accruals(world)] == [START]
    world.advance(minutes=1)
    world.close_hours(settle_seconds=600)

    assert [hour.hour for hour in accruals(world)] == [START, START + timedelta(hours=1)]


def test_closing_twice_changes_nothing(world: World) -> None:
    world.customer()
    put(world, STORAGE, 5)
    put(world, SEATS, 2)
    world.drain()
    world.advance(days=1)
    world.close_hours()
    before = accruals(world)

    assert world.close_hours() == 0

    assert accruals(world) == before
    assert len(before) == 48


def test_a_late_event_reopens_its_hour_and_closing_again_writes_what_is_true_now(world: World) -> None:
    customer = world.customer()
    put(world, STORAGE, 100)
    world.drain()
    world.advance(hours=10)
    world.close_hours()
    assert accrued_now(world, customer) == {STORAGE: 100 * 10 * HOUR}

    put(world, STORAGE, 40, outright=False, at=START + timedelta(hours=4, minutes=30))
    world.drain()

    assert len(accruals(world)) == 4  # the hours before it stand
    assert accrued_now(world, customer) == {STORAGE: 100 * 10 * HOUR + 40 * 5 * HOUR + 40 * HOUR // 2}
    world.close_hours()
    assert [hour.units for hour in accruals(world)] == [100 * HOUR] * 4 + [120 * HOUR] + [140 * HOUR] * 5
    assert accrued_now(world, customer) == {STORAGE: 100 * 10 * HOUR + 40 * 5 * HOUR + 40 * HOUR // 2}


def test_changes_of_one_instant_count_in_the_order_in_which_they_came_in(world: World) -> None:
    customer = world.customer()
    for quantity in (50, 10, 70, 30):
        put(world, STORAGE, quantity)
    put(world, STORAGE, 1, outright=False)
    world.advance(hours=1)
    world.drain()

    world.close_hours()

    assert world.session.scalars(select(Level.level)).one() == 31
    assert accrued_now(world, customer) == {STORAGE: 31 * HOUR}


def test_a_late_event_lowers_the_peak_that_a_later_hour_had_risen_to(world: World) -> None:
    customer = world.customer()
    put(world, SEATS, 1)
    put(world, SEATS, 2, outright=False, at=START + timedelta(hours=5))
    world.advance(hours=8)
    world.drain()
    world.close_hours()
    assert accrued_now(world, customer) == {SEATS: 3}

    put(world, SEATS, 0, at=START + timedelta(hours=3))
    world.drain()
    world.close_hours()

    assert [hour.units for hour in accruals(world)] == [1, 0, 0, 0, 0, 1, 0, 0]
    assert accrued_now(world, customer) == {SEATS: 2}


def test_an_hour_is_split_where_the_period_ends_inside_it(world: World) -> None:
    """A month in India begins at 18:30 UTC."""
    world.customer(timezone="Asia/Kolkata")
    november, december = world.periods()[:2]
    boundary = datetime(2026, 11, 30, 18, 30, tzinfo=UTC)
    assert november.ends_at == boundary == december.starts_at
    world.now = boundary - timedelta(minutes=90)  # 17:00
    put(world, STORAGE, 6)
    put(world, SEATS, 3)
    put(world, SEATS, 2, at=boundary - timedelta(minutes=10))
    world.drain()
    world.advance(hours=3)

    world.close_hours()

    assert [(hour.period_id, hour.hour.hour, hour.units) for hour in accruals(world, STORAGE)] == [
        (november.id, 17, 6 * HOUR),
        (november.id, 18, 3 * HOUR),
        (december.id, 18, 3 * HOUR),
        (december.id, 19, 6 * HOUR),
    ]
    assert [(hour.period_id, hour.units, hour.peak) for hour in accruals(world, SEATS)] == [
        (november.id, 3, 3),
        (november.id, 0, 3),
        (december.id, 2, 2),
        (december.id, 0, 2),
    ]
    assert accrued(world.session, november, now=world.now) == {STORAGE: 9 * HOUR, SEATS: 3}
    assert accrued(world.session, december, now=world.now) == {STORAGE: 9 * HOUR, SEATS: 2}


def test_a_period_that_begins_in_the_middle_of_hours_not_closed_yet_is_told_apart_all_the_same(world: World) -> None:
    world.customer(timezone="Asia/Kolkata")
    november, december = world.periods()[:2]
    put(world, STORAGE, 6)
    world.drain()
    world.now = december.starts_at + timedelta(minutes=20)

    # from the 10th 12:00 to the 30th 18:30: twenty days and six and a half hours
    assert accrued(world.session, november, now=world.now) == {STORAGE: 6 * (20 * DAY + 6 * HOUR + HOUR // 2)}
    assert accrued(world.session, december, now=world.now) == {STORAGE: 6 * 20 * 60}
    assert accrued(world.session, december, now=december.starts_at - timedelta(seconds=1)) == {}


def test_seats_rise_and_fall_and_their_maximum_is_charged_once(world: World) -> None:
    customer = world.customer()
    put(world, SEATS, 1)
    for hours, seats in [(1, 3), (2, 1), (3, 2), (4, 5), (5, 1)]:
        put(world, SEATS, seats, at=START + timedelta(hours=hours))
    world.advance(hours=6)
    world.drain()

    assert accrued_now(world, customer) == {SEATS: 5}
    world.close_hours()

    assert [hour.units for hour in accruals(world)] == [1, 2, 0, 0, 2, 0]
    assert accrued_now(world, customer) == {SEATS: 5}


def test_seats_that_are_carried_into_a_period_are_its_first_maximum(world: World) -> None:
    world.customer()
    put(world, SEATS, 4)
    put(world, SEATS, 2, at=START + timedelta(hours=1))
    world.drain()
    world.advance(days=25)
    world.close_hours()

    november, december = world.periods()[:2]
    assert accrued(world.session, november, now=world.now) == {SEATS: 4}
    assert accrued(world.session, december, now=world.now) == {SEATS: 2}


def test_a_voided_event_counts_nowhere(world: World) -> None:
    customer = world.customer()
    put(world, STORAGE, 100)
    put(world, STORAGE, 50, outright=False, at=START + timedelta(hours=1))
    world.advance(hours=4)
    world.drain()
    world.close_hours()
    assert accrued_now(world, customer) == {STORAGE: (100 + 150 * 3) * HOUR}

    void = update(Event).where(Event.units == 50).values(voided_at=world.now).returning(Event.meter_id, Event.time)
    meter_id, time = world.session.execute(void).one()
    fold_levels(world.session, [(customer.id, meter_id, to_micros(time))])
    world.session.commit()

    assert accrued_now(world, customer) == {STORAGE: 400 * HOUR}
    world.close_hours()
    assert [hour.units for hour in accruals(world)] == [100 * HOUR] * 4


def test_time_before_the_first_period_is_not_billed(world: World) -> None:
    customer = world.customer()
    (november, *_) = world.periods()
    put(world, STORAGE, 100, at=november.starts_at - timedelta(days=3))
    put(world, STORAGE, 70, at=november.starts_at - timedelta(hours=5))
    world.drain()
    expected = {STORAGE: 70 * int((world.now - november.starts_at).total_seconds())}
    assert accrued_now(world, customer) == expected

    world.close_hours()

    assert accrued_now(world, customer) == expected
    assert [hour for hour in accruals(world) if hour.hour < november.starts_at] == []


def test_a_late_event_of_a_closed_period_changes_the_level_from_the_current_one_on(world: World) -> None:
    world.customer()
    november, december = world.periods()[:2]
    put(world, STORAGE, 100)
    world.drain()
    world.now = november.ends_at + timedelta(hours=3)
    world.close_hours()
    world.close_periods()
    billed = accrued(world.session, november, now=world.now)

    put(world, STORAGE, 50, outright=False, at=november.ends_at - timedelta(days=2))
    world.drain()
    world.close_hours()

    assert accrued(world.session, november, now=world.now) == billed
    assert accrued(world.session, december, now=world.now) == {STORAGE: 150 * 3 * HOUR}


def test_a_late_event_before_the_first_period_finds_the_level_of_its_time(world: World) -> None:
    customer = world.customer()
    (november, *_) = world.periods()
    put(world, STORAGE, 100, at=november.starts_at - timedelta(days=3))
    world.drain()
    world.close_hours()

    put(world, STORAGE, 5, outright=False, at=november.starts_at - timedelta(days=1))
    world.drain()
    world.close_hours()

    assert world.session.scalars(select(Level.level)).one() == 105
    assert accrued_now(world, customer) == {STORAGE: 105 * int((world.now - november.starts_at).total_seconds())}


def test_hours_wait_for_the_period_that_they_belong_to(world: World) -> None:
    customer = world.customer(timezone="Asia/Kolkata")
    november, december = world.periods()[:2]
    put(world, STORAGE, 6)
    world.drain()
    world.session.execute(delete(Period).where(Period.id == december.id))
    world.now = november.ends_at + timedelta(hours=5)

    world.close_hours()

    assert world.session.scalars(select(Level.accrued_until)).one() == november.ends_at - timedelta(minutes=30)
    assert world.close_hours() == 0
    again = Period(customer_id=customer.id, starts_at=december.starts_at, ends_at=december.ends_at, plan="free")
    world.session.add(again)
    world.session.commit()
    world.close_hours()
    by_period = {hour.period_id: hour.units for hour in accruals(world) if hour.hour.day == 30 and hour.hour.hour == 18}
    assert by_period == {november.id: 3 * HOUR, again.id: 3 * HOUR}


def test_a_meter_that_left_the_catalog_stays_as_it_is(world: World) -> None:
    world.customer()
    put(world, SEATS, 2)
    put(world, STORAGE, 2)
    world.drain()
    world.advance(hours=2)
    meters = {key: meter for key, meter in world.catalog.meters.items() if key != SEATS}
    world.catalog = world.catalog.model_copy(update={"meters": meters})

    assert world.close_hours() == 1

    assert accruals(world, SEATS) == []
    assert len(accruals(world, STORAGE)) == 2


def test_many_customers_are_closed_by_as_many_statements_as_one(world: World) -> None:
    world.customer("only")
    put(world, STORAGE, 10, customer="only")
    world.drain()
    world.advance(hours=1)
    with world.counting() as for_one:
        assert close_hours(world.session, world.catalog, now=world.now, settle_seconds=0).levels == 1
    world.session.commit()

    for number in range(40):
        world.customer(f"c{number}")
        put(world, STORAGE, number, customer=f"c{number}")
        put(world, SEATS, number, customer=f"c{number}")
    world.drain()
    world.advance(hours=3)
    with world.counting() as for_many:
        assert close_hours(world.session, world.catalog, now=world.now, settle_seconds=0).levels == 81
    world.session.commit()

    assert for_many == for_one
    assert len(accruals(world)) == 1 + 81 * 3


def test_a_limit_leaves_the_rest_to_the_next_call(world: World) -> None:
    for number in range(5):
        world.customer(f"c{number}")
        put(world, STORAGE, 1, customer=f"c{number}")
    world.drain()
    world.advance(hours=1)
    moved = []
    for _ in range(4):
        moved.append(close_hours(world.session, world.catalog, now=world.now, settle_seconds=0, limit=2).levels)
        world.session.commit()

    assert moved == [2, 2, 1, 0]
    assert len(accruals(world)) == 5


# -- beside the drain ------------------------------------------------------------------------------------------------


def test_closing_waits_for_a_drain_whose_events_it_cannot_see_yet(world: World) -> None:
    customer = world.customer()
    put(world, STORAGE, 100)
    world.drain()
    world.advance(hours=5)
    put(world, STORAGE, 70, at=START + timedelta(hours=3))
    drain(world.session, world.redis, now=world.now)  # not committed

    with Session(world.session.get_bind()) as other:
        other.execute(text("SET LOCAL lock_timeout = '50ms'"))
        with pytest.raises(OperationalError, match="lock timeout"):
            close_hours(other, world.catalog, now=world.now, settle_seconds=0)
    world.session.commit()
    world.close_hours()

    assert accrued_now(world, customer) == {STORAGE: 100 * 3 * HOUR + 70 * 2 * HOUR}
    assert world.used(STORAGE) == 70


def test_closing_waits_for_whoever_holds_the_partition_before_it_relies_on_anything(world: World) -> None:
    """A drain that has stored its events but not yet looked at their levels holds no row of `levels`."""
    customer = world.customer()
    put(world, STORAGE, 100)
    world.drain()
    world.advance(hours=5)
    lock_partition(world.session, customer.partition)

    with Session(world.session.get_bind()) as other:
        other.execute(text("SET LOCAL lock_timeout = '50ms'"))
        with pytest.raises(OperationalError, match="lock timeout"):
            close_hours(other, world.catalog, now=world.now, settle_seconds=0)


def test_a_drain_passes_by_what_is_being_closed_and_comes_back_to_it(world: World) -> None:
    customer = world.customer()
    put(world, STORAGE, 100)
    world.drain()
    world.advance(hours=5)
    put(world, STORAGE, 70, at=START + timedelta(hours=3))

    with Session(world.session.get_bind()) as closer:
        close_hours(closer, world.catalog, now=world.now, settle_seconds=0)
        world.session.execute(text("SET LOCAL lock_timeout = '2s'"))  # it would wait for ever
        assert drain(world.session, world.redis, now=world.now).stored.fresh == 0
        world.session.commit()
        closer.commit()
    world.drain()
    world.close_hours()

    assert accrued_now(world, customer) == {STORAGE: 100 * 3 * HOUR + 70 * 2 * HOUR}


def test_closers_and_drains_side_by_side_end_with_what_the_events_say(world: World, engine: Engine) -> None:
    keys = [f"c{number}" for number in range(12)]
    for key in keys:
        world.customer(key)
    world.advance(days=2)
    recorded = Flag()

    def produce() -> None:
        chance = random.Random(7)
        for _ in range(60):
            for key in chance.sample(keys, 4):
                at = START + timedelta(seconds=chance.randrange(2 * DAY))
                put(world, chance.choice([STORAGE, SEATS]), chance.randrange(9), customer=key, at=at)
        recorded.set()

    def drain_all() -> int:
        stored = 0
        while not recorded.is_set():
            with Session(engine) as session:
                stored += drain(session, world.redis, now=world.now, most=20).stored.fresh
                session.commit()
        return stored

    def close_all() -> int:
        moved = 0
        while not recorded.is_set():
            with Session(engine) as session:
                moved += close_hours(session, world.catalog, now=world.now, settle_seconds=0, limit=5).levels
                session.commit()
        return moved

    with ThreadPoolExecutor() as pool:
        work = [pool.submit(task) for task in (produce, drain_all, drain_all, close_all, close_all, close_all)]
        done = [task.result() for task in work]
    world.drain()
    world.close_hours()

    assert sum(count or 0 for count in done[1:3]) > 0 < sum(count or 0 for count in done[3:])
    for key in keys:
        for meter in (STORAGE, SEATS):
            assert facts(accruals(world, meter, key)) == folded_from_events(world, key, meter)


# -- helpers ---------------------------------------------------------------------------------------------------------


def put(
    world: World,
    meter: str,
    quantity: int,
    *,
    customer: str = "acme",
    at: datetime | None = None,
    outright: bool = True,
) -> None:
    time = to_micros(at or world.now)
    world.record(world.event(customer, meter, quantity, outright=outright, time=time))


def accruals(world: World, meter: str | None = None, customer: str | None = None) -> list[Accrual]:
    query = select(Accrual).join(Period, Period.id == Accrual.period_id).order_by(Accrual.hour, Period.starts_at)
    if meter is not None:
        query = query.where(Accrual.meter_id == meter_ids(world.session)[meter])
    if customer is not None:
        query = query.join(Customer, Customer.id == Accrual.customer_id).where(Customer.key == customer)
    found = list(world.session.scalars(query.execution_options(populate_existing=True)))
    world.session.commit()
    return found


def accrued_now(world: World, customer: Customer) -> dict[str, Decimal]:
    """In the period that is current."""
    period = next(period for period in world.periods(customer.key) if period.starts_at <= world.now < period.ends_at)
    found = accrued(world.session, period, now=world.now)
    world.session.commit()
    return found


def facts(hours: list[Accrual]) -> list[HourAccrual]:
    return [HourAccrual(hour.period_id, hour.hour, int(hour.units), hour.closing, hour.peak) for hour in hours]


def folded_from_events(world: World, customer: str, meter: str) -> list[HourAccrual]:
    """The accruals as one fold over all events makes them."""
    events = [
        event
        for event in world.events()
        if event.meter_id == meter_ids(world.session)[meter]
        and event.customer_id == world.periods(customer)[0].customer_id
    ]
    if not events:
        return []
    folded = accrue(
        Opening(events[0].time.replace(minute=0, second=0, microsecond=0), 0),
        [Change(event.time, event.op, event.units) for event in events],
        [Span(period.id, period.starts_at, period.ends_at) for period in world.periods(customer)],
        until=world.now,
        bills_as=world.catalog.meters[meter].bills_as or "time_weighted",
    )
    return list(folded.hours)
