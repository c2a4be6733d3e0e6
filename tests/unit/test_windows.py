"""Where the local clock cuts a range into windows, against an oracle that looks at the clock every quarter hour."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.errors import InvalidQuery
from metering.store.windows import MAX_WINDOWS, WindowSize, cut_hours, edges, joined

BERLIN, LORD_HOWE, KOLKATA = ZoneInfo("Europe/Berlin"), ZoneInfo("Australia/Lord_Howe"), ZoneInfo("Asia/Kolkata")
ZONES = [
    *("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Asia/Kathmandu", "UTC"),
    *("America/St_Johns", "America/Sao_Paulo", "Africa/Casablanca", "Pacific/Apia", "Pacific/Chatham", "Asia/Beirut"),
]


def local(found: Sequence[datetime], zone: ZoneInfo) -> list[str]:
    return [f"{edge.astimezone(zone):%m-%d %H:%M %z}" for edge in found]


def at(zone: ZoneInfo, *parts: int, fold: int = 0) -> datetime:
    return datetime(*parts, tzinfo=zone, fold=fold)  # type: ignore[arg-type]


def test_without_a_size_there_is_one_window() -> None:
    start, end = at(BERLIN, 2026, 3, 1, 10, 17), at(BERLIN, 2026, 5, 1)

    assert edges(start, end, None, BERLIN) == [start, end]


def test_the_first_and_the_last_window_are_cut_to_the_range() -> None:
    found = edges(at(BERLIN, 2026, 1, 30, 18), at(BERLIN, 2026, 2, 2, 6), "DAY", BERLIN)

    assert local(found, BERLIN) == [
        *("01-30 18:00 +0100", "01-31 00:00 +0100", "02-01 00:00 +0100", "02-02 00:00 +0100", "02-02 06:00 +0100")
    ]


def test_a_day_has_23_or_25_hours_where_clocks_are_moved() -> None:
    spring = edges(at(BERLIN, 2026, 3, 28), at(BERLIN, 2026, 3, 31), "DAY", BERLIN)
    autumn = edges(at(BERLIN, 2026, 10, 24), at(BERLIN, 2026, 10, 27), "DAY", BERLIN)

    assert lengths(spring) == [24, 23, 24]
    assert lengths(autumn) == [24, 25, 24]


def test_the_hour_that_comes_twice_is_two_windows_and_the_one_left_out_is_none() -> None:
    twice = edges(at(BERLIN, 2026, 10, 25, 1), at(BERLIN, 2026, 10, 25, 4), "HOUR", BERLIN)
    skipped = edges(at(BERLIN, 2026, 3, 29, 1), at(BERLIN, 2026, 3, 29, 4), "HOUR", BERLIN)

    assert local(twice, BERLIN) == [
        *("10-25 01:00 +0200", "10-25 02:00 +0200", "10-25 02:00 +0100", "10-25 03:00 +0100", "10-25 04:00 +0100")
    ]
    assert local(skipped, BERLIN) == ["03-29 01:00 +0100", "03-29 03:00 +0200", "03-29 04:00 +0200"]


def test_where_clocks_move_by_half_an_hour_no_window_holds_two_offsets() -> None:
    back = edges(at(LORD_HOWE, 2026, 4, 5, 1), at(LORD_HOWE, 2026, 4, 5, 3), "HOUR", LORD_HOWE)
    ahead = edges(at(LORD_HOWE, 2026, 10, 4, 1), at(LORD_HOWE, 2026, 10, 4, 4), "HOUR", LORD_HOWE)

    assert local(back, LORD_HOWE) == [
        *("04-05 01:00 +1100", "04-05 01:30 +1030", "04-05 02:00 +1030", "04-05 03:00 +1030")
    ]
    assert local(ahead, LORD_HOWE) == [
        *("10-04 01:00 +1030", "10-04 02:30 +1100", "10-04 03:00 +1100", "10-04 04:00 +1100")
    ]


def test_months_end_when_they_do() -> None:
    found = edges(at(BERLIN, 2028, 1, 31, 12), at(BERLIN, 2028, 4, 2), "MONTH", BERLIN)

    assert local(found, BERLIN) == [
        *("01-31 12:00 +0100", "02-01 00:00 +0100", "03-01 00:00 +0100", "04-01 00:00 +0200", "04-02 00:00 +0200")
    ]


def test_a_day_without_midnight_begins_when_its_date_does() -> None:
    beirut = ZoneInfo("Asia/Beirut")  # clocks go from 23:59 to 01:00

    found = edges(at(beirut, 2022, 3, 26), at(beirut, 2022, 3, 28), "DAY", beirut)

    assert local(found, beirut) == ["03-26 00:00 +0200", "03-27 01:00 +0300", "03-28 00:00 +0300"]


def test_a_date_that_was_skipped_has_no_window() -> None:
    apia = ZoneInfo("Pacific/Apia")  # went from the 29th to the 31st

    found = edges(at(apia, 2011, 12, 29), at(apia, 2012, 1, 1), "DAY", apia)

    assert local(found, apia) == ["12-29 00:00 -1000", "12-31 00:00 +1400", "01-01 00:00 +1400"]


def test_a_day_that_the_clock_goes_back_from_has_begun() -> None:
    """At one minute past midnight clocks were put back to 23:01: the new day had begun, and goes on."""
    st_johns = ZoneInfo("America/St_Johns")
    whole = edges(at(st_johns, 2010, 11, 6), at(st_johns, 2010, 11, 8), "DAY", st_johns)
    inside = edges(at(st_johns, 2010, 11, 6, 23, 30, fold=1), at(st_johns, 2010, 11, 8), "DAY", st_johns)

    assert lengths(whole) == [24, 25]
    assert inside[1:] == whole[2:]


def test_hours_that_an_edge_cuts() -> None:
    whole = edges(at(BERLIN, 2026, 3, 1), at(BERLIN, 2026, 3, 3), "DAY", BERLIN)
    halves = edges(at(KOLKATA, 2026, 3, 1), at(KOLKATA, 2026, 3, 3), "DAY", KOLKATA)

    assert cut_hours(whole) == []
    assert cut_hours(halves) == [datetime(2026, 2, day, 18, tzinfo=UTC) for day in (28,)] + [
        datetime(2026, 3, day, 18, tzinfo=UTC) for day in (1, 2)
    ]
    assert len(joined(cut_hours(halves))) == 3


def test_neighbouring_hours_are_one_stretch() -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    hours = [noon, noon + timedelta(hours=1), noon + timedelta(hours=3)]

    assert joined(hours) == [
        (noon, noon + timedelta(hours=2)),
        (noon + timedelta(hours=3), noon + timedelta(hours=4)),
    ]


@pytest.mark.parametrize(("size", "longest"), [("MINUTE", 60), ("HOUR", 3_600), ("DAY", 86_400)])
def test_too_many_windows_are_refused_and_the_limit_is_named(size: WindowSize, longest: int) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    most = start + timedelta(seconds=MAX_WINDOWS * longest)

    assert len(edges(start, most, size, ZoneInfo("UTC"))) == MAX_WINDOWS + 1
    with pytest.raises(InvalidQuery, match="50000") as refused:
        edges(start, most + timedelta(microseconds=1), size, ZoneInfo("UTC"))
    assert refused.value.facts["most"] == MAX_WINDOWS


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)),
        (datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)),
        (datetime(1, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)),
        (datetime(2026, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)),
    ],
)
def test_a_range_that_is_none_is_refused(start: datetime, end: datetime) -> None:
    with pytest.raises(InvalidQuery):
        edges(start, end, "MONTH", KOLKATA)


# -- against an oracle -----------------------------------------------------------------------------------------------

QUARTER = timedelta(minutes=15)  # every offset and every move of a clock is a multiple of it, but for St. John's


@settings(deadline=None)
@given(
    zone=st.sampled_from([name for name in ZONES if name != "America/St_Johns"]),
    start=st.datetimes(datetime(2009, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    quarters=st.integers(1, 96 * 70),
    size=st.sampled_from(["HOUR", "DAY", "MONTH"]),
)
def test_agrees_with_looking_at_the_clock_every_quarter_of_an_hour(
    zone: str, start: datetime, quarters: int, size: WindowSize
) -> None:
    where = ZoneInfo(zone)
    last = start + quarters * QUARTER

    found = edges(start, last, size, where)

    assert found == [start, *looked_up(start, last, size, where), last]


def looked_up(first: datetime, last: datetime, size: str, zone: ZoneInfo) -> list[datetime]:
    """Instants in `(first, last)` at which the clock shows another hour, date or month than just before."""
    moment = first - timedelta(
        microseconds=(first - datetime(2000, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) % (900 * 10**6)
    )
    shown, found = shows(moment, size, zone), []
    while (moment := moment + QUARTER) < last:
        before, shown = shown, shows(moment, size, zone)
        if shown != before and moment > first:
            found.append(moment)
    return found


def shows(moment: datetime, size: str, zone: ZoneInfo) -> object:
    clock = moment.astimezone(zone)
    if size == "HOUR":
        return clock.date(), clock.hour, clock.utcoffset()
    return clock.date() if size == "DAY" else (clock.year, clock.month)


def lengths(found: Sequence[datetime]) -> list[float]:
    return [(after - before) / timedelta(hours=1) for before, after in pairwise(found)]
