"""`verify` proves that the books agree, and sees a single unit that is wrong in any of them."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from metering.clock import to_micros
from metering.intake.scripts import prefix
from metering.models import Correction, LedgerEntry, Period, StripeMeter, StripeReport
from metering.store.accruals import close_hours
from metering.store.meters import meter_ids
from metering.store.rebuild import rebuild
from metering.store.verify import verify
from metering.store.void import correct, void
from tests.factories.subscriptions import subscribed
from tests.factories.world import World


@pytest.fixture
def books(world: World) -> World:
    """Two customers with usage, levels, closed hours and a reported hour; something still in the stream."""
    acme, beta = world.customer("acme", "pro"), world.customer("beta", "pro")
    for customer in (acme.key, beta.key):
        world.record(*(world.event(customer, "api_call", n, properties={"path": f"/{n % 2}"}) for n in range(1, 6)))
        world.record(world.event(customer, "storage_bytes", 1000), world.event(customer, "seats", 2, outright=True))
    world.advance(minutes=20, seconds=7)
    world.record(world.event("acme", "storage_bytes", 777, outright=True))
    world.advance(hours=3)
    world.drain()
    close_hours(world.session, world.catalog, now=world.now, settle_seconds=0)
    report_an_hour(world, acme.id)
    world.session.commit()
    world.record(world.event("acme", "api_call", 2))
    return world


def failed(engine: Engine, world: World) -> dict[str, list[str]]:
    """The checks that do not hold, with the customers they name."""
    world.session.commit()
    return {
        check.name: sorted(one.customer for one in check.differences)
        for check in verify(engine, world.redis)
        if not check.holds
    }


def test_the_books_agree_while_usage_still_waits_in_the_stream(books: World, engine: Engine) -> None:
    assert failed(engine, books) == {}


def test_what_waits_for_a_closed_period_is_no_difference(books: World, engine: Engine) -> None:
    (first, *_) = books.periods()
    books.session.execute(text("UPDATE periods SET closed_at = ends_at WHERE id = :id"), {"id": first.id})
    customer = books.find("acme")
    books.session.add(
        Correction(partition=customer.partition, customer="acme", meter="api_call", period_id=first.id, units=-3)
    )
    books.session.commit()

    assert "live" not in failed(engine, books)


def test_the_books_agree_after_voids_corrections_and_replays(books: World, engine: Engine) -> None:
    world = books
    world.drain()
    customer = world.find("acme")
    events = [event for event in world.events() if event.customer_id == customer.id]
    some, other, *_ = (event for event in events if event.op == "add")
    level = next(event for event in events if event.op == "set")
    void(world.session, world.intake, customer, some.source, some.event_id, reason="test", actor="test", now=world.now)
    void(
        world.session, world.intake, customer, level.source, level.event_id, reason="test", actor="test", now=world.now
    )
    world.session.commit()
    correct(
        *(world.session, world.intake, world.catalog, customer, other.source, other.event_id, 99),
        reason="test",
        actor="test",
        now=world.now,
    )
    world.session.commit()

    assert failed(engine, world) == {}  # the corrections are still to come
    world.drain()
    assert failed(engine, world) == {}
    assert world.used() == world.total()


CORRUPTIONS = {
    "identities": "DELETE FROM identities WHERE digest = (SELECT min(digest::text)::uuid FROM events)",
    "rollups": "UPDATE rollups SET units = units + 1 WHERE ctid = (SELECT min(ctid) FROM rollups)",
    "totals": "UPDATE period_totals SET units = units - 1 WHERE ctid = (SELECT min(ctid) FROM period_totals)",
    "levels": "UPDATE levels SET opening = opening + 1 WHERE ctid = (SELECT min(ctid) FROM levels)",
    "accruals": "UPDATE accruals SET units = units + 1 WHERE ctid = (SELECT min(ctid) FROM accruals)",
    "coverage": "DELETE FROM accruals WHERE ctid = (SELECT min(ctid) FROM accruals)",
    "periods": "UPDATE periods SET ends_at = ends_at - interval '1 day' WHERE id = (SELECT min(id) FROM periods)",
    "ledger": "UPDATE stripe_ledger SET reported = reported + 1",
}


@pytest.mark.parametrize("check", CORRUPTIONS)
def test_one_wrong_unit_is_seen(books: World, engine: Engine, check: str) -> None:
    with engine.begin() as connection:
        assert connection.execute(text(CORRUPTIONS[check])).rowcount == 1

    assert check in failed(engine, books)


@pytest.mark.parametrize("column", ["closing", "peak"])
def test_a_wrong_closing_level_or_peak_is_seen(books: World, engine: Engine, column: str) -> None:
    with engine.begin() as connection:
        connection.execute(
            text(f"UPDATE accruals SET {column} = {column} + 1 WHERE ctid = (SELECT min(ctid) FROM accruals)")
        )

    assert failed(engine, books) == {"accruals": ["acme"]}


def test_usage_that_stripe_will_never_be_told_of_is_seen(books: World, engine: Engine) -> None:
    """Given an hour that is reported, when its report and its ledger row vanish without a note."""
    world = books
    place = world.session.query(LedgerEntry).one()
    link = {"meter_id": place.meter_id, "stripe_id": "mtr_1", "event_name": "api_call"}
    link |= {"customer_payload_key": "stripe_customer_id", "value_payload_key": "value"}
    world.session.add(StripeMeter(account="test", **link))
    world.find("acme").stripe_customer_id = "cus_1"
    subscribed(world.session, world.find("acme"), "test")
    world.session.execute(text("UPDATE rollups SET hour = hour"))  # notes every hour
    world.session.commit()
    assert failed(engine, world) == {}

    with engine.begin() as connection:
        connection.execute(text("DELETE FROM stripe_reports"))
        connection.execute(text("DELETE FROM stripe_ledger"))
        connection.execute(text("DELETE FROM stripe_changes"))

    assert "owed" in failed(engine, world)


def test_an_event_that_was_lost_or_changed_is_seen(books: World, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE events SET units = units + 1 WHERE op = 'add' AND units = 3"))

    assert failed(engine, books)["rollups"] == ["acme", "beta"]


@pytest.mark.parametrize("kind", ["u", "l"])
def test_one_wrong_unit_in_a_live_counter_is_seen(books: World, engine: Engine, kind: str) -> None:
    (name,) = [key.decode() for key in books.redis.keys(f"m:*:{kind}:acme*")]
    meter = "api_call" if kind == "u" else "storage_bytes"
    books.redis.hincrby(name, meter, 1)

    assert failed(engine, books) == {"live": ["acme"]}


def test_a_partition_without_its_generation_is_seen(books: World, engine: Engine) -> None:
    books.redis.delete(prefix(books.find("acme").partition) + "gen")

    assert "live" in failed(engine, books)


def test_a_rebuild_after_redis_was_lost_makes_the_books_agree_again(books: World, engine: Engine) -> None:
    books.drain()
    used = books.used()
    books.redis.flushdb()
    assert sorted(books.rebuild_lost()) == [0, 1, 2, 3]

    assert failed(engine, books) == {}
    assert books.used() == used == books.total()


def test_a_rebuild_keeps_what_still_stood_in_the_stream(books: World, engine: Engine) -> None:
    used = books.used()
    books.redis.delete(*[prefix(number) + "gen" for number in range(4)])
    books.rebuild_lost()

    assert failed(engine, books) == {}
    assert books.used() == used == books.total()


def test_a_rebuild_that_is_broken_off_before_its_commit_loses_nothing(books: World, engine: Engine) -> None:
    books.record(*(books.event("acme", "api_call", 1) for _ in range(10)))
    used = books.used()
    for partition in range(4):
        rebuild(books.session, books.redis, books.catalog, partition, now=books.now)
        books.session.rollback()

    books.rebuild_lost()

    assert failed(engine, books) == {}
    assert books.used() == used == books.total()


def test_a_rebuild_that_is_broken_off_after_its_commit_loses_nothing(books: World, engine: Engine) -> None:
    used = books.used()
    for partition in range(4):
        rebuild(books.session, books.redis, books.catalog, partition, now=books.now)
        books.session.commit()

    books.rebuild_lost()

    assert failed(engine, books) == {}
    assert books.used() == used == books.total()


def report_an_hour(world: World, customer_id: int) -> None:
    period = world.session.query(Period).filter_by(customer_id=customer_id).order_by(Period.starts_at).first()
    assert period is not None
    place = {
        "account": "test",
        "customer_id": customer_id,
        "meter_id": meter_ids(world.session)["api_call"],
        "period_id": period.id,
        "hour": world.now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=3),
    }
    world.session.add(LedgerEntry(**place, reported=15, revision=1))
    world.session.flush()
    report = StripeReport(**place, revision=1, part=0, event_name="api_call", stripe_customer_id="cus_1", value=15)
    report.timestamp, report.identifier, report.next_try_at = place["hour"], f"id-{to_micros(world.now)}", world.now
    world.session.add(report)
