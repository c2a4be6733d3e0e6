"""The bars of the last minutes: exact, whatever the pace, and never of a time that was not read in full."""

import pytest

from metering.catalog import Catalog
from metering.dashboard.pulse import BARS, beating, per_bar, pulse, scale_for
from metering.store.event_list import Newest

NOW = 1_800_000_059


def bars_of(newest: Newest) -> list[int]:
    return per_bar(newest.units, scale_for(newest, NOW), NOW)


def test_a_bar_is_a_whole_minute_and_the_last_one_runs() -> None:
    newest = Newest({NOW: 2, NOW - 59: 3, NOW - 60: 5, NOW - 29 * 60 - 59: 7, NOW - 30 * 60: 11}, is_cut=False)

    bars = bars_of(newest)

    assert len(bars) == BARS
    assert (bars[-1], bars[-2], bars[0]) == (5, 5, 7)
    assert sum(bars) == 17


@pytest.mark.parametrize(
    ("reaches_back", "each"), [(1801, "minute"), (400, "10 seconds"), (40, "second"), (5, "second")]
)
def test_what_was_not_read_in_full_is_not_drawn(reaches_back: int, each: str) -> None:
    newest = Newest({NOW - one: 10 for one in range(reaches_back)}, is_cut=True)

    scale = scale_for(newest, NOW)

    assert scale.each == each
    if reaches_back > BARS:
        assert set(bars_of(newest)[:-1]) == {10 * scale.bar_seconds}


def test_it_says_what_it_draws(catalog: Catalog) -> None:
    calls = beating(catalog)
    assert calls is not None

    busy = pulse(calls, Newest({NOW: 300, NOW - 60: 1_200}, is_cut=False), NOW)
    idle = pulse(calls, Newest({}, is_cut=False), NOW)

    assert busy.title == "API calls per minute"
    assert busy.text == "1,500 API calls in the last 30 minutes, at most 1.2K in a minute"
    assert busy.spark.bars[-2:] == (100, 25)
    assert idle.text == "None in the last 30 minutes"
    assert set(idle.spark.bars) == {0}
