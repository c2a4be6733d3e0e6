"""Whatever the minute at which a period ends: all of its levels is owed well before its invoice is final."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import Engine, text, update

from metering.clock import to_micros
from metering.models import Period
from metering.settings import Settings
from metering.store.accruals import accrued
from metering.store.verify import verify
from tests.factories.ledger import Books
from tests.factories.standin import StandinProcess
from tests.factories.world import START, World

DEFAULTS = Settings.model_fields
SETTLES = float(DEFAULTS["settle_delay_seconds"].default)
FINAL = timedelta(seconds=float(DEFAULTS["stripe_finalizes_seconds"].default))
HOUR = timedelta(hours=1)
ENDS = START + 2 * HOUR
MINUTES = (0, 1, 2, 3, 4, 5, 30, 59)
BYTES = 10**9


@pytest.fixture
def books(world: World, standin: StandinProcess, engine: Engine) -> Books:
    return Books(world, standin, engine).open()


def customers(books: Books) -> Iterator[tuple[str, datetime]]:
    """One whose period ends at each minute of an hour, with bytes stored and seats taken."""
    for minute in MINUTES:
        key, ends_at = f"c{minute}", ENDS + timedelta(minutes=minute)
        customer = books.customer(key)
        first, second = books.world.periods(key)[:2]
        session = books.world.session
        session.execute(update(Period).where(Period.id == first.id).values(ends_at=ends_at))
        session.execute(update(Period).where(Period.id == second.id).values(starts_at=ends_at))
        customer.state_version += 1
        session.commit()
        yield key, ends_at


def owed(books: Books) -> dict[tuple[str, str], Decimal]:
    """What there is of the first periods in rows, by customer and meter."""
    rows = books.world.session.execute(
        text("""
            SELECT c.key, m.key AS meter, sum(l.reported * s.unit) AS units
            FROM stripe_ledger l
            JOIN customers c ON c.id = l.customer_id
            JOIN meters m ON m.id = l.meter_id
            JOIN stripe_meters s ON s.account = l.account AND s.meter_id = l.meter_id
            JOIN periods p ON p.id = l.period_id AND p.ends_at < :last
            GROUP BY c.key, m.key
        """),
        {"last": ENDS + HOUR},
    ).all()
    books.world.session.commit()
    return {(row.key, row.meter): row.units for row in rows}


def test_all_of_a_period_is_owed_before_its_invoice_is_final(books: Books) -> None:
    ends = dict(customers(books))
    world = books.world
    world.send()
    for key in ends:
        world.record(world.event(key, "storage_bytes", BYTES, outright=True))
        world.record(world.event(key, "seats", 3, outright=True))
    world.drain()
    wanted = {
        (key, meter): seconds
        for key, end in ends.items()
        for meter, seconds in (("storage_bytes", BYTES * (end - START).total_seconds()), ("seats", 3))
    }
    complete: dict[tuple[str, str], datetime] = {}

    while world.now < ENDS + 2 * HOUR + timedelta(minutes=5):
        books.advance(minutes=1)  # as often as the jobs run
        world.close_hours(settle_seconds=SETTLES)
        books.owe()
        for series, units in owed(books).items():
            if units == wanted[series]:
                complete.setdefault(series, world.now)

    late = {series: str(at) for series, at in complete.items() if at > ends[series[0]] + FINAL - timedelta(minutes=50)}
    assert (late, complete.keys()) == ({}, wanted.keys())
    assert owed(books) == wanted  # and closing the hour added nothing
    assert [check.name for check in verify(books.engine, world.redis) if not check.holds] == []
    books.check()


def test_what_changes_the_level_late_is_in_it_too(books: Books) -> None:
    """The part that was settled is taken away and settled again; books and estimate agree all the while."""
    ends = dict(customers(books))
    world, key = books.world, "c2"
    world.send()
    world.record(world.event(key, "storage_bytes", BYTES, outright=True))
    world.drain()
    books.advance(seconds=(ends[key] - world.now).total_seconds() + SETTLES + 60)
    world.close_hours(settle_seconds=SETTLES)
    books.owe()
    before = owed(books)[key, "storage_bytes"]

    late = ends[key] - timedelta(seconds=60)
    world.record(world.event(key, "storage_bytes", 2 * BYTES, outright=True, time=to_micros(late)))
    world.drain()
    checks = [check.name for check in verify(books.engine, world.redis) if not check.holds]
    books.advance(minutes=1)
    world.close_hours(settle_seconds=SETTLES)
    books.owe()

    assert checks == []
    assert owed(books)[key, "storage_bytes"] == before + 60 * BYTES
    estimated = accrued(world.session, world.periods(key)[0], now=world.now)
    assert estimated["storage_bytes"] == before + 60 * BYTES
    assert [check.name for check in verify(books.engine, world.redis) if not check.holds] == []
    books.advance(hours=2)
    world.close_hours(settle_seconds=SETTLES)
    books.owe()
    assert owed(books)[key, "storage_bytes"] == before + 60 * BYTES
