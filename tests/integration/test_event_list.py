"""The list of events: newest first, a page at a time, each page at the cost of the first."""

from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text
from sqlalchemy import event as sqlalchemy_event

from metering.clock import EPOCH, to_micros
from metering.errors import InvalidQuery
from metering.ids import identity_digest
from metering.models import MeterRow
from metering.store.event_list import (
    EventFilter,
    EventPage,
    StoredEvent,
    decode_cursor,
    encode_cursor,
    event_by_digest,
    event_by_identity,
    list_events,
    newest_by_second,
)
from metering.store.void import void
from tests.factories.world import START, World

HOUR = timedelta(hours=1)
T = TypeVar("T")


@pytest.fixture
def told(world: World) -> World:
    """Seven events of two customers, the fifth voided, the last one late."""
    world.customer("acme", timezone="Europe/Berlin")
    world.customer("bolt")
    record(world, "e1", properties={"path": "/a", "n": Decimal("1.50")}, key_id=7)
    record(world, "e2", at=START + HOUR, meter="compute_seconds", quantity="2.5", source="batch")
    record(world, "e3", at=START + HOUR, meter="storage_bytes", quantity=9, outright=True)
    record(world, "e1", at=START + HOUR, customer="bolt", properties={"path": "/a"})
    record(world, "e5", at=START + 2 * HOUR)
    world.advance(days=30)
    world.drain()
    world.close_periods()
    record(world, "e6", at=world.now, properties={"path": "/b"})
    record(world, "e7", at=START + 3 * HOUR)
    world.drain()
    void(world.session, world.intake, world.find("acme"), "test", "e5", reason="", actor="", now=world.now)
    world.session.commit()
    return world


def record(world: World, id: str, *, at: datetime = START, **more: Any) -> None:
    world.record(world.event(id=id, time=to_micros(at), **more))


def ids(page: EventPage) -> list[str]:
    return [f"{event.customer[0]}{event.id[1:]}" for event in page.events]


def listed(world: World, **wanted: Any) -> list[str]:
    return ids(list_events(world.session, EventFilter(**wanted)))


# -- what is shown ---------------------------------------------------------------------------------------------------


def test_an_event_is_shown_as_it_was_stored(told: World) -> None:
    found = event_by_identity(told.session, "acme", "test", "e1")

    assert found == StoredEvent(
        digest=identity_digest("acme", "test", "e1"),
        customer="acme",
        meter="api_call",
        source="test",
        id="e1",
        time=START,
        quantity=Decimal(1),
        op="add",
        properties={"path": "/a", "n": Decimal("1.50")},
        group={"path": "/a", "method": None, "status": None},
        key_id=7,
        recorded_at=START,
        late=False,
        overshoot=False,
        voided_at=None,
        period_starts_at=datetime.fromisoformat("2026-11-01T00:00+01:00"),
        period_ends_at=datetime.fromisoformat("2026-12-01T00:00+01:00"),
    )
    assert str(found.properties["n"]) == "1.50"


def test_one_event_is_found_by_its_digest_and_only_for_its_customer(told: World) -> None:
    digest = identity_digest("acme", "batch", "e2")
    found = event_by_digest(told.session, digest)

    assert found is not None
    assert (found.id, str(found.quantity)) == ("e2", "2.500000")
    assert event_by_digest(told.session, digest, customer="acme") == found
    assert event_by_digest(told.session, digest, customer="bolt") is None
    assert event_by_identity(told.session, "bolt", "batch", "e2") is None
    for wrong in ("", "x", digest[:-1], "0" * 32, digest + "00"):
        assert event_by_digest(told.session, wrong) is None
    assert event_by_identity(told.session, "a\x00", "\ud800", "e2") is None


def test_events_come_newest_first(told: World) -> None:
    assert listed(told)[:3] == ["a6", "a7", "a5"]
    assert set(listed(told)[3:6]) == {"a2", "a3", "b1"}  # of one instant: by digest
    assert listed(told)[6:] == ["a1"]
    assert [name for name in listed(told) if name != "b1"] == listed(told, customers=["acme"])


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"customers": ["bolt"]}, {"b1"}),
        ({"customers": ["acme", "bolt"], "meters": ["api_call"]}, {"a1", "a5", "a6", "a7", "b1"}),
        ({"customers": []}, set()),
        ({"customers": ["nobody"]}, set()),
        ({"meters": ["compute_seconds", "storage_bytes"]}, {"a2", "a3"}),
        ({"meters": ["nothing"]}, set()),
        ({"source": "batch"}, {"a2"}),
        ({"id": "e1"}, {"a1", "b1"}),
        ({"id": "e1", "source": "test", "customers": ["acme", "nobody"]}, {"a1"}),
        ({"from_": START + HOUR, "to": START + 2 * HOUR}, {"a2", "a3", "b1"}),
        ({"from_": START + 2 * HOUR, "customers": ["acme"]}, {"a5", "a6", "a7"}),
        ({"key_id": 7}, {"a1"}),
        ({"late": True}, {"a7"}),
        ({"late": False, "meters": ["api_call"], "customers": ["acme"]}, {"a1", "a5", "a6"}),
        ({"overshoot": True}, set()),
        ({"voided": True}, {"a5"}),
        ({"voided": False, "customers": ["acme"]}, {"a1", "a2", "a3", "a6", "a7"}),
        ({"properties": {"path": "/a"}}, {"a1", "b1"}),
        ({"properties": {"path": "/a", "n": "1.50"}}, {"a1"}),
        ({"properties": {"path": ""}}, set()),
    ],
)
def test_filters_hold_together(told: World, wanted: dict[str, Any], found: set[str]) -> None:
    assert set(listed(told, **wanted)) == found


# -- pages -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("customers", [None, ["acme", "bolt"]])
@pytest.mark.parametrize("limit", [1, 2, 3, 7])
def test_pages_show_each_event_once_though_many_are_of_one_instant_and_others_come_in(
    told: World, customers: list[str] | None, limit: int
) -> None:
    wanted = EventFilter(customers=customers)
    whole = ids(list_events(told.session, wanted))
    seen: list[str] = []
    cursor, pages = None, 0
    while pages == 0 or cursor is not None:
        page = list_events(told.session, wanted, limit=limit, cursor=cursor)
        seen += ids(page)
        cursor, pages = page.next_cursor, pages + 1
        record(told, f"e{100 + pages}", at=told.now + timedelta(minutes=1))
        told.drain()

    assert seen == whole
    assert pages == -(-7 // limit)


@pytest.mark.parametrize("limit", [0, -1, 101])
def test_a_limit_that_is_none_is_refused(told: World, limit: int) -> None:
    with pytest.raises(InvalidQuery, match="between 1 and 100"):
        list_events(told.session, EventFilter(), limit=limit)


FAR = urlsafe_b64encode(b"\x7f" + b"\xff" * 23).decode()


@pytest.mark.parametrize(
    "cursor", ["", "x", "äöü", "A" * 32 + "=", "A" * 31, "A" * 36, FAR, "A" * 31 + "\n", "A" * 31 + "*"]
)
def test_a_wrong_cursor_is_refused(told: World, cursor: str) -> None:
    with pytest.raises(InvalidQuery, match="cursor"):
        list_events(told.session, EventFilter(), cursor=cursor)


@settings(deadline=None)
@given(micros=st.integers(-(10**15), 10**17), digest=st.binary(min_size=16, max_size=16))
def test_a_cursor_stands_for_the_place_it_was_made_of(micros: int, digest: bytes) -> None:
    time = EPOCH + timedelta(microseconds=micros)

    found = decode_cursor(encode_cursor(time, digest.hex()))

    assert (found[0], found[1].bytes) == (time, digest)


@pytest.mark.parametrize(
    "wanted",
    [
        {"source": "a\x00"},
        {"id": "\ud800"},
        {"customers": ["\x00"]},
        {"meters": ["\x00"]},
        {"properties": {"\x00": "a"}},
        {"properties": {"a": "\x00"}},
        {"properties": {f"n{number}": "" for number in range(21)}},
    ],
)
def test_a_filter_that_no_event_can_pass_is_refused(told: World, wanted: dict[str, Any]) -> None:
    with pytest.raises(InvalidQuery):
        listed(told, **wanted)


# -- cost ------------------------------------------------------------------------------------------------------------

MANY = """
INSERT INTO events (digest, time, counted_at, customer_id, meter_id, period_id, op, units, source, event_id, grp,
    properties, recorded_at, position, item, late, overshoot)
SELECT md5(c || '-' || n)::uuid, :at - n / 3 * interval '2 minutes', :at, c, m.ids[1 + n % 3], p.id, 'add', 1, 'many',
    n::text, '{}', '{"path": "/a"}', :at, n, 0, FALSE, FALSE
FROM generate_series(1, 60000) n, unnest(CAST(:customer_ids AS bigint[])) c
JOIN LATERAL (SELECT id FROM periods WHERE customer_id = c ORDER BY id LIMIT 1) p ON TRUE,
    (SELECT array_agg(id ORDER BY id) AS ids FROM meters) m
"""


@pytest.mark.parametrize("customers", [None, ["acme"], ["acme", "bolt"]])
def test_page_thousand_costs_what_page_one_costs(world: World, engine: Engine, customers: list[str] | None) -> None:
    """Given 120,000 events over a month, when a page of 50 is read, then some hundreds of blocks are looked at: a few
    for each row, and a few to see that a month's partition holds none."""
    keys = [world.customer("acme").id, world.customer("bolt").id]
    world.session.execute(text(MANY), {"at": START, "customer_ids": keys})
    world.session.commit()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE events"))  # other tests left many dead rows behind
    meters = world.session.query(MeterRow).count()
    months = world.session.scalar(text("SELECT count(*) FROM pg_inherits WHERE inhparent = 'events'::regclass")) or 0
    places = [None, *(cursor_after(world, customers, number * 50) for number in (1, 500, 1000))]

    costs = [blocks_read(world, EventFilter(customers=customers), cursor) for cursor in places]

    walks = 1 if customers is None else meters * len(customers)
    at_most = walks * (51 * 5 + months * 4)  # three a row, and more while dead rows of other tests stand between
    assert max(costs) < 2 * min(costs) + 20, costs
    assert max(costs) < at_most, costs


def test_the_newest_are_read_no_further_than_the_limit(world: World, engine: Engine) -> None:
    """Given many events that the planner knows nothing of, as of the latest minutes."""
    customer, other = world.customer("acme"), world.customer("bolt")
    world.session.execute(text(MANY), {"at": START, "customer_ids": [other.id]})
    world.session.commit()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE events"))
    world.session.execute(text(MANY), {"at": START, "customer_ids": [customer.id]})
    world.session.commit()

    newest, read = watched(
        world, lambda: newest_by_second(world.session, customer.id, "api_call", since=START - 40 * 24 * HOUR, most=100)
    )

    assert (newest.is_cut, sum(newest.units.values())) == (True, 100)
    assert read < 100 * 3 + 100


def cursor_after(world: World, customers: list[str] | None, events: int) -> str:
    row = world.session.execute(
        text("""
            SELECT e.time, e.digest FROM events e JOIN customers c ON c.id = e.customer_id
            WHERE CAST(:keys AS text[]) IS NULL OR c.key = ANY(CAST(:keys AS text[]))
            ORDER BY e.time DESC, e.digest DESC OFFSET :events LIMIT 1
        """),
        {"keys": customers, "events": events},
    ).one()
    return encode_cursor(row.time, row.digest.hex)


def blocks_read(world: World, wanted: EventFilter, cursor: str | None) -> int:
    """The blocks that the statement for a page of fifty looks at, in memory or not."""
    page, read = watched(world, lambda: list_events(world.session, wanted, limit=50, cursor=cursor))
    assert len(page.events) == 50
    assert all(before.time >= after.time for before, after in pairwise(page.events))
    return read


def watched(world: World, read: Callable[[], T]) -> tuple[T, int]:
    """What a reading answers, and how many blocks its last SELECT looks at, planned as it was."""
    sent: list[tuple[str, Any]] = []

    def note(_: object, __: object, sql: str, parameters: Any, *___: object) -> None:
        sent.append((sql, parameters))

    bind = world.session.get_bind()
    sqlalchemy_event.listen(bind, "before_cursor_execute", note)
    try:
        answer = read()
    finally:
        sqlalchemy_event.remove(bind, "before_cursor_execute", note)
    place = max(number for number, (sql, _) in enumerate(sent) if not sql.startswith("SET"))
    connection = world.session.connection()
    for sql, _ in sent[:place]:
        if sql.startswith("SET"):
            connection.exec_driver_sql(sql)
    sql, parameters = sent[place]
    explained = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {sql}", parameters)
    plan = explained.scalar_one()[0]["Plan"]
    world.session.rollback()
    return answer, int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
