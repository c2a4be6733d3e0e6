"""The fold from a level's changes to what it cost by the hour, against an oracle that walks second by second."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.intake.values import Span
from metering.store.levels import BillsAs, Change, HourAccrual, Opening, accrue

MIDNIGHT = datetime(2026, 11, 10, tzinfo=UTC)
ENDLESS = Span(1, MIDNIGHT - timedelta(days=30), MIDNIGHT + timedelta(days=30))


def at(hours: float = 0, *, seconds: int = 0, micros: int = 0) -> datetime:
    return MIDNIGHT + timedelta(hours=hours, seconds=seconds, microseconds=micros)


def test_an_idle_level_costs_each_of_its_hours() -> None:
    folded = accrue(Opening(at(0), 7, peak=9), [], [ENDLESS], until=at(3), bills_as="time_weighted")

    assert folded.level == 7
    assert folded.hours == tuple(HourAccrual(1, at(hour), 25_200, 7, 9) for hour in range(3))


def test_a_set_replaces_a_change_adds_and_each_costs_from_its_instant_on() -> None:
    changes = [Change(at(0.25), "set", 10), Change(at(0.5), "change", 4), Change(at(1.5), "change", -14)]

    folded = accrue(Opening(at(0), 2), changes, [ENDLESS], until=at(3), bills_as="time_weighted")

    # 900 s at 2, 900 s at 10, 1,800 s at 14; then 1,800 s at 14; then nothing
    assert [(hour.units, hour.closing) for hour in folded.hours] == [(36_000, 14), (25_200, 0), (0, 0)]


def test_changes_of_one_instant_count_in_the_order_they_come_in() -> None:
    changes = [Change(at(0), "change", 5), Change(at(0), "set", 3), Change(at(0), "change", 1)]

    folded = accrue(Opening(at(0), 0), changes, [ENDLESS], until=at(1), bills_as="time_weighted")

    assert [(hour.units, hour.closing, hour.peak) for hour in folded.hours] == [(14_400, 4, 5)]


@pytest.mark.parametrize(
    ("micros", "level", "units"),
    [
        (500_000, 1, 0),  # half a unit-second: to even
        (500_001, 1, 1),
        (1_500_000, 1, 2),
        (2_500_000, 1, 2),
        (2_500_001, 1, 3),
        (1, 10**15, 10**9),
    ],
)
def test_an_hour_is_exact_to_the_microsecond_and_rounded_once_half_to_even(micros: int, level: int, units: int) -> None:
    changes = [Change(at(0), "set", level), Change(at(0, micros=micros), "set", 0)]

    folded = accrue(Opening(at(0), 0), changes, [ENDLESS], until=at(1), bills_as="time_weighted")

    assert folded.hours[0].units == units


def test_an_hour_is_split_where_a_period_ends_at_half_past_six() -> None:
    first, second = Span(1, at(-100), at(18.5)), Span(2, at(18.5), at(700))
    changes = [Change(at(18.25), "set", 8), Change(at(18.75), "set", 2)]

    folded = accrue(Opening(at(18), 4), changes, [first, second], until=at(20), bills_as="time_weighted")

    assert [(hour.period_id, hour.hour, hour.units, hour.closing, hour.peak) for hour in folded.hours] == [
        (1, at(18), 10_800, 8, 8),  # 900 s at 4, 900 s at 8
        (2, at(18), 9_000, 2, 8),  # 900 s at 8, 900 s at 2
        (2, at(19), 7_200, 2, 8),
    ]


def test_a_change_at_the_boundary_belongs_to_the_period_that_begins() -> None:
    first, second = Span(1, at(-100), at(18.5)), Span(2, at(18.5), at(700))
    changes = [Change(at(18.5), "set", 9)]

    folded = accrue(Opening(at(18), 4), changes, [first, second], until=at(19), bills_as="maximum")

    assert [(hour.period_id, hour.units, hour.peak) for hour in folded.hours] == [(1, 4, 4), (2, 9, 9)]


def test_seats_cost_each_rise_of_the_maximum_and_what_is_carried_into_a_period() -> None:
    first, second = Span(1, at(-100), at(3)), Span(2, at(3), at(700))
    changes = [
        Change(at(0.5), "change", 3),
        Change(at(0.6), "change", -2),
        Change(at(1.5), "change", 1),
        Change(at(2.5), "change", 3),
        Change(at(2.6), "change", -3),
        Change(at(4.5), "change", 1),
    ]

    folded = accrue(Opening(at(0), 0), changes, [first, second], until=at(5), bills_as="maximum")

    assert [(hour.units, hour.closing, hour.peak) for hour in folded.hours] == [
        (3, 1, 3),
        (0, 2, 3),  # two seats: below the three that are charged already
        (2, 2, 5),
        (2, 2, 2),  # the next period begins with two
        (1, 3, 3),
    ]


def test_folding_goes_on_from_the_peak_it_had_reached() -> None:
    folded = accrue(Opening(at(5), 1, peak=3), [Change(at(5), "set", 4)], [ENDLESS], until=at(6), bills_as="maximum")

    assert [(hour.units, hour.peak) for hour in folded.hours] == [(1, 4)]


def test_the_time_before_the_first_period_is_carried_and_not_billed() -> None:
    first = Span(1, at(4.5), at(700))
    changes = [
        Change(at(0.2), "set", 5),
        Change(at(0.4), "change", 1),
        Change(at(2), "set", 3),
        Change(at(4), "set", 2),
    ]

    folded = accrue(Opening(at(0), 0), changes, [first], until=at(6), bills_as="time_weighted")

    assert [(hour.hour, hour.units, hour.closing, hour.peak) for hour in folded.hours] == [
        (at(0), 0, 6, 0),
        (at(2), 0, 3, 0),
        (at(4), 3_600, 2, 2),  # half an hour at 2
        (at(5), 7_200, 2, 2),
    ]


def test_a_level_below_zero_costs_nothing() -> None:
    changes = [Change(at(0.5), "change", -3), Change(at(0.75), "set", 4)]

    folded = accrue(Opening(at(0), 1), changes, [ENDLESS], until=at(1), bills_as="time_weighted")

    assert [(hour.units, hour.closing) for hour in folded.hours] == [(1_800 + 3_600, 4)]


def test_as_of_an_instant_the_running_hour_costs_what_it_has_cost_so_far() -> None:
    changes = [Change(at(1.5), "set", 6)]

    folded = accrue(
        Opening(at(0), 4), changes, [ENDLESS], until=at(2), bills_as="time_weighted", as_of=at(1.5, micros=500_000)
    )

    assert [hour.units for hour in folded.hours] == [14_400, 7_203]


def test_a_seat_taken_at_this_very_instant_counts_even_on_the_hour() -> None:
    changes = [Change(at(2), "set", 6)]

    folded = accrue(Opening(at(0), 4), changes, [ENDLESS], until=at(3), bills_as="maximum", as_of=at(2))

    assert sum(hour.units for hour in folded.hours) == 6


def test_instants_in_a_zone_with_summer_time_are_taken_as_instants() -> None:
    """Subtracting two datetimes of one zone would count the hour that the clocks were put back not at all."""
    berlin = ZoneInfo("Europe/Berlin")
    start = datetime(2026, 10, 25, 0, 0, tzinfo=UTC)
    period = Span(1, (start - timedelta(days=9)).astimezone(berlin), (start + timedelta(days=9)).astimezone(berlin))
    changes = [Change((start + timedelta(minutes=30)).astimezone(berlin), "set", 1)]

    folded = accrue(
        Opening(start.astimezone(berlin), 0),
        changes,
        [period],
        until=(start + timedelta(hours=3)).astimezone(berlin),
        bills_as="time_weighted",
    )

    assert [(hour.hour, hour.units) for hour in folded.hours] == [
        (start, 1_800),
        (start + timedelta(hours=1), 3_600),
        (start + timedelta(hours=2), 3_600),
    ]


# -- against an oracle -----------------------------------------------------------------------------------------------

HOURS = 4
SECONDS = HOURS * 3600

instants = st.integers(0, SECONDS - 1)
changes_strategy = st.lists(st.tuples(instants, st.sampled_from(["set", "change"]), st.integers(0, 9)), max_size=8).map(
    lambda found: [Change(at(seconds=second), op, units) for second, op, units in sorted(found, key=lambda c: c[0])]
)
# Boundaries of three periods in a row, somewhere in the range, on any second.
bounds_strategy = st.tuples(instants, instants).map(sorted)
ways: st.SearchStrategy[BillsAs] = st.sampled_from(["time_weighted", "maximum"])


@given(opening=st.integers(0, 9), changes=changes_strategy, bounds=bounds_strategy, bills_as=ways)
def test_agrees_with_walking_every_second(
    opening: int, changes: list[Change], bounds: list[int], bills_as: BillsAs
) -> None:
    periods = three_periods(bounds)

    folded = accrue(Opening(at(0), opening), changes, periods, until=at(HOURS), bills_as=bills_as)

    found = {(hour.period_id, hour.hour): hour.units for hour in folded.hours}
    assert len(found) == len(folded.hours)
    assert found == walk_every_second(opening, changes, periods, bills_as)


@given(
    opening=st.integers(0, 9),
    changes=changes_strategy,
    bounds=bounds_strategy,
    bills_as=ways,
    cut=st.integers(0, HOURS),
)
def test_folding_in_two_steps_gives_what_one_step_gives(
    opening: int, changes: list[Change], bounds: list[int], bills_as: BillsAs, cut: int
) -> None:
    periods = three_periods(bounds)
    whole = accrue(Opening(at(0), opening), changes, periods, until=at(HOURS), bills_as=bills_as)

    first = accrue(Opening(at(0), opening), changes, periods, until=at(cut), bills_as=bills_as)
    last = first.hours[-1] if first.hours else None
    running = next(period for period in periods if period.ends_at > at(cut))
    peak = last.peak if last and last.period_id == running.id else 0
    rest = [change for change in changes if change.time >= at(cut)]
    second = accrue(Opening(at(cut), first.level, peak), rest, periods, until=at(HOURS), bills_as=bills_as)

    assert first.hours + second.hours == whole.hours
    assert second.level == whole.level


def three_periods(bounds: list[int]) -> list[Span]:
    edges = [at(-24), *(at(seconds=second) for second in sorted(set(bounds))), at(48)]
    return [Span(number, *edges[number : number + 2]) for number in range(len(edges) - 1)]


def walk_every_second(
    opening: int, changes: list[Change], periods: list[Span], bills_as: BillsAs
) -> dict[tuple[int, datetime], int]:
    by_second: dict[int, list[Change]] = {}
    for change in changes:
        by_second.setdefault(int((change.time - MIDNIGHT).total_seconds()), []).append(change)
    level, found, peaks = opening, {}, {period.id: 0 for period in periods}
    for second in range(SECONDS):
        moment = at(seconds=second)
        period = next(period for period in periods if period.starts_at <= moment < period.ends_at)
        key = (period.id, at(second // 3600))
        units = found.setdefault(key, 0)
        begins = second == 0 or period.starts_at == moment
        levels = [level] if begins else []
        for change in by_second.get(second, []):
            level = change.units if change.op == "set" else level + change.units
            levels.append(level)
        if bills_as == "time_weighted":
            found[key] = units + level
        else:
            for reached in levels:
                found[key] += max(0, reached - peaks[period.id])
                peaks[period.id] = max(peaks[period.id], reached)
    return found
