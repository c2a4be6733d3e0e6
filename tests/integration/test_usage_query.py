"""The usage query: windows of the local clock, all aggregations, dimensions and filters, by example.

`test_usage_query_oracle` holds it against an oracle.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from redis import Redis
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from metering.clock import to_micros
from metering.errors import InvalidQuery
from metering.store.usage_query import MAX_DIMENSIONS, MAX_FILTER_VALUES, UsageQuery, UsageRow, query_usage, sources_of
from metering.store.verify import verify
from metering.store.void import correct, void
from tests.factories.meters import catalog as every_meter
from tests.factories.world import START, World

BERLIN, KOLKATA = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kolkata")
HOUR = timedelta(hours=1)


@pytest.fixture
def world(session: Session, redis: Redis) -> World:
    """A product with a meter of each aggregation, and customers "acme" and "bolt"."""
    world = World(session=session, redis=redis, catalog=every_meter())
    world.initialise()
    world.customer("acme")
    world.customer("bolt")
    return world


def use(world: World, meter: str, quantity: object = 1, *, at: datetime = START, **more: Any) -> str:
    """An event of acme, unless it says otherwise; its id."""
    event = world.event(meter=meter, quantity=quantity, time=to_micros(at), **more)
    world.record(event)
    return event.id


def ask(world: World, meter: str, **more: Any) -> list[UsageRow]:
    more.setdefault("from_", START - HOUR)
    more.setdefault("to", START + 10 * HOUR)
    rows = query_usage(world.session, UsageQuery(world.catalog.meters[meter], **more), now=world.now)
    world.session.commit()
    return rows


def values(rows: Sequence[UsageRow]) -> list[str]:
    return [str(row.value) for row in rows]


def by_group(rows: Sequence[UsageRow]) -> Mapping[tuple[str | None, ...], str]:
    return {tuple(row.group_by.values()): str(row.value) for row in rows}


# -- windows ---------------------------------------------------------------------------------------------------------


def test_without_windows_there_is_one_row_from_from_to_to_and_to_is_not_included(world: World) -> None:
    use(world, "sum", "0.001", at=START)
    use(world, "sum", "2.5", at=START + HOUR - timedelta(microseconds=1))
    use(world, "sum", 100, at=START + HOUR)
    world.drain()

    rows = ask(world, "sum", from_=START, to=START + HOUR)

    assert rows == [UsageRow(START, START + HOUR, Decimal("2.501"))]


def test_windows_without_usage_are_left_out_and_the_first_and_last_are_cut_to_the_range(world: World) -> None:
    start, end = START + timedelta(minutes=30), START + timedelta(hours=3, minutes=15)
    use(world, "sum", 1, at=START)
    use(world, "sum", 2, at=start)
    use(world, "sum", 0, at=START + 2 * HOUR)  # usage of nothing is usage
    use(world, "sum", 4, at=end - timedelta(minutes=1))
    use(world, "sum", 8, at=end)
    world.drain()

    rows = ask(world, "sum", from_=start, to=end, window_size="HOUR")

    assert [(row.window_start - START, row.window_end - START, str(row.value)) for row in rows] == [
        (timedelta(minutes=30), HOUR, "2.000"),
        (2 * HOUR, 3 * HOUR, "0.000"),
        (3 * HOUR, timedelta(hours=3, minutes=15), "4.000"),
    ]


def test_without_from_it_begins_with_the_first_event_that_counts(world: World) -> None:
    voided = use(world, "sum", 5, at=START - 5 * HOUR)
    use(world, "sum", 1, at=START - timedelta(minutes=7))
    use(world, "sum", 1, at=START - 9 * HOUR, customer="bolt")
    world.drain()
    take_back(world, voided)

    rows = ask(world, "sum", from_=None, to=None, customers=["acme"])

    assert rows == [UsageRow(START - timedelta(minutes=7), world.now, Decimal("1.000"))]
    assert ask(world, "sum", from_=None, to=START - HOUR, customers=["acme"]) == []
    assert ask(world, "sum", from_=None, customers=["nobody"]) == []
    assert ask(world, "sum", from_=None, to=None)[0].window_start == START - 9 * HOUR


def test_days_follow_the_local_clock(world: World) -> None:
    midnight = datetime(2026, 11, 9, 18, 30, tzinfo=UTC)  # in Kolkata
    for minutes, quantity in ((-1, 1), (0, 2), (29, 4), (30, 8)):
        use(world, "sum", quantity, at=midnight + timedelta(minutes=minutes))
    world.drain()

    rows = ask(world, "sum", from_=midnight - 48 * HOUR, to=midnight + 48 * HOUR, window_size="DAY", timezone=KOLKATA)

    assert [(row.window_start, str(row.value)) for row in rows] == [
        (midnight - 24 * HOUR, "1.000"),
        (midnight, "14.000"),
    ]


# -- sources ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("meter", "asked", "sources"),
    [
        ("sum", {}, {"rollups"}),
        ("sum", {"window_size": "HOUR"}, {"rollups"}),
        ("sum", {"window_size": "DAY", "timezone": BERLIN}, {"rollups"}),
        ("sum", {"window_size": "MONTH", "timezone": KOLKATA}, {"rollups", "events"}),
        ("sum", {"window_size": "DAY", "timezone": KOLKATA}, {"rollups", "events"}),
        ("sum", {"window_size": "HOUR", "timezone": KOLKATA}, {"events"}),
        ("sum", {"window_size": "MINUTE", "to": START + 9 * HOUR}, {"events"}),
        ("sum", {"from_": START + timedelta(minutes=5)}, {"rollups", "events"}),
        ("sum", {"from_": START + timedelta(minutes=5), "to": START + timedelta(minutes=9)}, {"events"}),
        ("sum", {"group_by": ["model", "subject"], "filters": {"region": ["eu"]}}, {"rollups"}),
        ("sum", {"group_by": ["colour"]}, {"events"}),
        ("sum", {"filters": {"colour": ["red"]}}, {"events"}),
        ("latest", {"window_size": "DAY"}, {"rollups"}),
        ("unique_count", {"window_size": "DAY"}, {"events"}),
        ("level_latest", {"window_size": "DAY"}, {"accruals", "events"}),
        ("level_max", {"window_size": "DAY"}, {"events"}),
        ("level_latest", {"from_": START + 999 * HOUR, "to": START + 1000 * HOUR}, set()),
    ],
)
def test_a_query_is_read_from_rollups_wherever_they_suffice(
    meter: str, asked: dict[str, Any], sources: set[str]
) -> None:
    span = {"from_": asked.pop("from_", START), "to": asked.pop("to", START + 24 * 40 * HOUR)}
    query = UsageQuery(every_meter().meters[meter], **asked)

    assert sources_of(query, **span, now=START + 2 * HOUR) == sources


def test_what_rollups_suffice_for_is_not_read_from_events(world: World) -> None:
    """Given that rollups and events say different things, it shows which of them was read."""
    use(world, "sum", 1, at=START)
    use(world, "sum", 1, at=START + HOUR)
    world.drain()
    world.session.execute(text("UPDATE rollups SET units = 7000"))

    half = START + timedelta(minutes=30)
    assert values(ask(world, "sum", window_size="HOUR")) == ["7.000", "7.000"]
    assert values(ask(world, "sum", from_=START, to=START + HOUR + half.minute * timedelta(minutes=1))) == ["8.000"]
    assert values(ask(world, "sum", window_size="MINUTE")) == ["1.000", "1.000"]


# -- aggregations ----------------------------------------------------------------------------------------------------


def test_each_aggregation_of_usage(world: World) -> None:
    for quantity in (3, 1, 2):
        for meter in ("sum", "count", "max", "min", "avg", "latest"):
            use(world, meter, quantity, at=START + quantity * timedelta(minutes=1))
    world.drain()

    found = {meter: values(ask(world, meter)) for meter in ("sum", "count", "max", "min", "avg", "latest")}

    assert found == {
        "sum": ["6.000"],
        "count": ["3"],
        "max": ["3.00"],
        "min": ["1"],
        "avg": ["2.0000000"],
        "latest": ["3.00"],
    }


def test_observed_values_may_lie_below_zero(world: World) -> None:
    for quantity in (-3, -1, -2):
        for meter in ("max", "min", "avg", "latest"):
            use(world, meter, quantity)
    world.drain()

    assert [values(ask(world, meter))[0] for meter in ("max", "min", "avg", "latest")] == [
        *("-1.00", "-3", "-2.0000000", "-2.00")
    ]


def test_different_values_are_counted_once_over_all_hours_that_a_window_holds(world: World) -> None:
    for number, value in enumerate(["ada", "bob", "ada", 7, "7", 7.0, ""]):
        use(world, "unique_count", at=START + number * HOUR, properties={"user": {"id": value}})
    world.drain()

    assert values(ask(world, "unique_count")) == ["4"]
    assert values(ask(world, "unique_count", window_size="HOUR")) == ["1"] * 7


def test_a_voided_event_counts_nowhere(world: World) -> None:
    """Given a day in which all events but one of 10 are voided, and another day in which all are."""
    ids = {
        meter: [use(world, meter, quantity, at=START + at * HOUR, **seen(meter, quantity))]
        for meter, quantity, at in [
            *(("sum", 5, 0), ("count", 1, 0), ("max", 99, 0), ("min", -9, 0), ("avg", 5, 0), ("latest", 5, 0)),
            ("unique_count", 5, 0),
        ]
    }
    for meter in ids:
        use(world, meter, 10, at=START - timedelta(minutes=1), **seen(meter, 10))
        ids[meter].append(use(world, meter, 10, at=START + timedelta(hours=30), **seen(meter, 10)))
    world.drain()
    for found in ids.values():
        for id in found:
            take_back(world, id)

    for size in ("MINUTE", "DAY"):
        for meter in ids:
            rows = ask(world, meter, to=START + 40 * HOUR, window_size=size)
            assert [row.value for row in rows] == [1 if "count" in meter else 10], meter


def test_of_two_values_of_one_instant_the_one_that_came_in_later_is_the_latest(world: World, engine: Engine) -> None:
    first = use(world, "latest", 1)
    use(world, "latest", 2)
    world.drain()
    assert values(ask(world, "latest")) == ["2.00"]

    correct(
        world.session,
        world.intake,
        world.catalog,
        world.find("acme"),
        "test",
        first,
        9,
        reason="",
        actor="",
        now=world.now,
    )
    world.session.commit()

    assert values(ask(world, "latest")) == ["2.00"]  # the correction keeps the place of what it replaces
    assert values(ask(world, "latest", window_size="MINUTE")) == ["2.00"]
    world.drain()
    assert [check.name for check in verify(engine, world.redis) if not check.holds] == []


def test_a_correction_keeps_every_digit_of_the_properties(world: World) -> None:
    """The value of a dimension, or the one that is told apart, would be another otherwise."""
    digits = Decimal("9007199254740993.10")
    id = use(world, "sum", 1, properties={"colour": digits, "size": Decimal(2**70), "note": "\u00e9\u2028"})
    world.drain()

    revised = correct(
        world.session,
        world.intake,
        world.catalog,
        world.find("acme"),
        "test",
        id,
        2,
        reason="",
        actor="",
        now=world.now,
    )
    world.session.commit()

    rows = ask(world, "sum", group_by=["colour", "size", "note"])
    assert by_group(rows) == {("9007199254740993.10", str(2**70), "\u00e9\u2028"): "2.000"}
    assert revised.id.startswith(id)


def test_of_several_groups_the_latest_value_is_taken_by_instant_then_by_customer_then_by_place(world: World) -> None:
    use(world, "latest", 1, properties={"model": "z"})
    use(world, "latest", 2, properties={"model": "a"})
    use(world, "latest", 3, customer="bolt")
    use(world, "latest", 4, properties={"model": "z"})
    world.drain()

    assert values(ask(world, "latest", customers=["acme"])) == ["4.00"]
    assert values(ask(world, "latest")) == ["3.00"]  # bolt was made after acme
    assert by_group(ask(world, "latest", customers=["acme"], group_by=["model"])) == {("a",): "2.00", ("z",): "4.00"}


# -- dimensions ------------------------------------------------------------------------------------------------------


def test_usage_is_grouped_by_declared_and_undeclared_properties_and_what_is_missing_is_none(world: World) -> None:
    use(world, "sum", 1, properties={"model": "a", "place": {"region": "eu"}, "colour": "red", "hot": True})
    use(world, "sum", 2, properties={"model": "a", "place": {}, "colour": "red", "hot": False})
    use(world, "sum", 4, properties={"model": "", "colour": ""})
    use(world, "sum", 8)
    world.drain()

    assert by_group(ask(world, "sum", group_by=["region", "model"])) == {
        ("eu", "a"): "1.000",
        (None, "a"): "2.000",
        (None, None): "12.000",
    }
    assert by_group(ask(world, "sum", group_by=["colour", "hot"])) == {
        ("red", "true"): "1.000",
        ("red", "false"): "2.000",
        (None, None): "12.000",
    }
    assert by_group(ask(world, "sum", group_by=["model", "colour", "model"])) == {
        ("a", "red"): "3.000",
        (None, None): "12.000",
    }


def test_a_group_reads_the_same_from_rollups_and_from_events(world: World) -> None:
    given = [True, 1.5, Decimal("1.50"), "é" * 200, {"a": 1}, ["x"], "x" * 119 + "'\"", None]
    for place, value in enumerate(given):
        use(world, "sum", 1 + place, properties={"model": value})
    world.drain()

    hour, minute = (ask(world, "sum", group_by=["model"], window_size=size) for size in ("HOUR", "MINUTE"))

    assert by_group(hour) == by_group(minute)
    assert {"true", "1.5", "1.50", "é" * 120, None} < {row.group_by["model"] for row in hour}


def test_filters_hold_for_all_kinds_of_names_and_an_empty_text_stands_for_nothing(world: World) -> None:
    for number, (model, colour) in enumerate([("a", "red"), ("b", "red"), ("c", None), (None, "blue")]):
        properties = {name: value for name, value in (("model", model), ("colour", colour)) if value}
        use(world, "sum", 10**number, properties=properties)
    use(world, "sum", 10**4, properties={"model": "a"}, customer="bolt")
    world.drain()

    def total(**filters: list[str]) -> list[str]:
        return values(ask(world, "sum", filters=filters))

    assert total(model=["a", "b"]) == ["10011.000"]
    assert total(model=["a"], colour=["red", "blue"]) == ["1.000"]
    assert total(model=["", "c"]) == ["1100.000"]
    assert total(colour=[""]) == ["10100.000"]
    assert total(subject=["bolt"]) == ["10000.000"]
    assert total(customerId=["bolt", "acme"], model=["a"], subject=["acme"]) == ["1.000"]
    assert total(model=["nothing like it"]) == []
    assert total(model=[]) == []


def test_usage_is_grouped_by_customer_and_no_filter_shows_one_that_was_not_asked_for(world: World) -> None:
    use(world, "sum", 1)
    use(world, "sum", 2, customer="bolt")
    world.drain()

    rows = ask(world, "sum", group_by=["customerId", "subject"])
    assert [(row.subject, row.customer_id, str(row.value)) for row in rows] == [
        ("acme", "acme", "1.000"),
        ("bolt", "bolt", "2.000"),
    ]
    assert [(row.subject, row.customer_id) for row in ask(world, "sum", group_by=["subject"])] == [
        ("acme", None),
        ("bolt", None),
    ]
    assert ask(world, "sum", customers=["acme"], filters={"subject": ["bolt"]}) == []
    assert values(ask(world, "sum", customers=["acme"], filters={"subject": ["bolt", "acme"]})) == ["1.000"]
    assert ask(world, "sum", customers=[]) == []


# -- levels ----------------------------------------------------------------------------------------------------------


def test_a_level_carries_over_and_has_a_value_in_idle_windows_of_its_life(world: World) -> None:
    for meter in ("level_latest", "level_max", "level_time_weighted"):
        use(world, meter, 8, outright=True, at=START + timedelta(minutes=30))
        use(world, meter, -6, at=START + 3 * HOUR)
    world.advance(hours=6)
    world.drain()

    found = {
        meter: {(row.window_start - START) // HOUR: str(row.value) for row in ask(world, meter, window_size="HOUR")}
        for meter in ("level_latest", "level_max", "level_time_weighted")
    }

    assert found == {
        "level_latest": {0: "8", 1: "8", 2: "8", 3: "2", 4: "2", 5: "2"},
        "level_max": {0: "8", 1: "8", 2: "8", 3: "8", 4: "2", 5: "2"},  # 8 is carried into the hour of the fall
        "level_time_weighted": {
            **{0: "4.0000000", 1: "8.0000000", 2: "8.0000000"},
            **{3: "2.0000000", 4: "2.0000000", 5: "2.0000000"},
        },
    }
    assert ask(world, "level_latest", customers=["bolt"], window_size="HOUR") == []
    assert ask(world, "level_latest", to=START) == []


@pytest.mark.parametrize("zone", [BERLIN, KOLKATA])
def test_closing_hours_changes_no_answer(world: World, zone: ZoneInfo) -> None:
    for number in range(20):
        use(world, "level_latest", number % 7, outright=number % 3 == 0, at=START + number * timedelta(minutes=37))
    world.advance(hours=30)
    world.drain()

    def answers() -> list[list[str]]:
        start = START - timedelta(hours=1, minutes=50)
        sizes = ("MINUTE", "HOUR", "DAY", None)
        return [values(ask(world, "level_latest", window_size=size, timezone=zone, from_=start)) for size in sizes]

    before = answers()
    world.advance(hours=-4)
    world.close_hours()
    world.advance(hours=4)

    assert answers() == before
    assert [before[3], len(set(before[1])) > 5] == [["3"], True]  # the sixteenth set it to 1, the one after it added 2


def test_a_level_is_known_until_now(world: World) -> None:
    use(world, "level_time_weighted", 8, outright=True)
    world.drain()
    world.advance(minutes=30)

    rows = ask(world, "level_time_weighted", from_=START, to=START + 9 * HOUR, window_size="HOUR")

    assert rows == [UsageRow(START, START + HOUR, Decimal("8.0000000"))]


def test_levels_of_several_customers_add_up(world: World) -> None:
    use(world, "level_max", 3, outright=True, customer="bolt")
    use(world, "level_max", 4, outright=True, at=START + HOUR)
    use(world, "level_max", 1, outright=True, at=START + 2 * HOUR, customer="bolt")
    world.advance(hours=4)
    world.drain()

    assert values(ask(world, "level_max", window_size="HOUR")) == ["3", "7", "7", "5"]
    assert [(row.subject, str(row.value)) for row in ask(world, "level_max", group_by=["subject"])] == [
        ("acme", "4"),
        ("bolt", "3"),
    ]


def test_a_late_change_of_a_level_counts_from_the_period_it_is_billed_in(world: World) -> None:
    use(world, "level_latest", 5, outright=True)
    world.drain()
    world.advance(days=25)  # December
    world.close_periods()
    use(world, "level_latest", 2, at=START + HOUR)
    world.drain()
    december = datetime(2026, 12, 1, tzinfo=UTC)

    rows = ask(world, "level_latest", from_=december - 48 * HOUR, to=december + 24 * HOUR, window_size="DAY")

    assert values(rows) == ["5", "5", "7"]


# -- what cannot be answered -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("meter", "asked", "field"),
    [
        ("sum", {"from_": START, "to": START}, "from"),
        ("sum", {"window_size": "MINUTE", "to": START + timedelta(days=35)}, "MINUTE"),
        ("sum", {"group_by": [f"n{number}" for number in range(MAX_DIMENSIONS + 1)]}, "group_by"),
        ("sum", {"group_by": [""]}, ""),
        ("sum", {"group_by": ["a\x00"]}, "a\x00"),
        ("sum", {"filters": {"model": ["a\x00"]}}, "model"),
        ("sum", {"filters": {"model": ["\ud800"]}}, "model"),
        ("sum", {"filters": {"model": ["x"] * (MAX_FILTER_VALUES + 1)}}, "model"),
        ("sum", {"customers": ["a\x00"]}, "customers"),
        ("level_max", {"group_by": ["model"]}, "group_by"),
        ("level_max", {"filters": {"model": ["a"]}}, "group_by"),
    ],
)
def test_a_query_that_cannot_be_answered_is_refused(
    world: World, meter: str, asked: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidQuery) as refused:
        ask(world, meter, **asked)

    assert refused.value.facts["field"] == field


@pytest.mark.parametrize("meter", ["sum", "level_max"])
def test_more_rows_than_an_answer_may_have_are_refused(
    world: World, meter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metering.store.usage_query.MAX_ROWS", 3)
    for number in range(4):
        use(world, meter, 1, at=START + number * HOUR)
    world.advance(hours=4)
    world.drain()

    assert len(ask(world, meter, window_size="HOUR", to=START + 3 * HOUR)) == 3
    with pytest.raises(InvalidQuery, match="more than 3 rows"):
        ask(world, meter, window_size="HOUR")


# -- helpers ---------------------------------------------------------------------------------------------------------


def seen(meter: str, value: object) -> dict[str, Any]:
    return {"properties": {"user": {"id": value}}} if meter == "unique_count" else {}


def take_back(world: World, id: str) -> None:
    void(world.session, world.intake, world.find("acme"), "test", id, reason="test", actor="test", now=world.now)
    world.session.commit()
