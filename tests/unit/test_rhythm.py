"""Where billing periods end: in a subscription's cycle, and in calendar months after it."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.billing.rhythm import Cycle, stretches_until


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def days(first: str, last: str) -> st.SearchStrategy[datetime]:
    bounds = [datetime.fromisoformat(day) for day in (first, last)]
    return st.datetimes(min_value=bounds[0], max_value=bounds[1], timezones=st.just(UTC))


@pytest.mark.parametrize(
    ("anchor", "cycle", "moment", "end"),
    [
        ("2026-11-10T12:30", "1 month", "2026-11-10T12:30", "2026-12-10T12:30"),
        ("2026-11-10T12:30", "1 month", "2026-12-10T12:29", "2026-12-10T12:30"),
        ("2026-01-31T00:00", "1 month", "2026-02-01T00:00", "2026-02-28T00:00"),
        ("2026-01-31T00:00", "1 month", "2026-02-28T00:00", "2026-03-31T00:00"),
        ("2026-01-31T00:00", "3 month", "2026-01-31T00:00", "2026-04-30T00:00"),
        ("2024-02-29T06:00", "1 year", "2025-01-01T00:00", "2025-02-28T06:00"),
        ("2026-11-10T12:30", "2 week", "2026-11-24T12:30", "2026-12-08T12:30"),
        ("2026-11-10T12:30", "1 month", "2026-06-01T00:00", "2026-06-10T12:30"),  # the anchor lies ahead
    ],
)
def test_a_cycle_ends_on_its_anchor_s_day(anchor: str, cycle: str, moment: str, end: str) -> None:
    assert Cycle(at(anchor), cycle).end_after(at(moment)) == at(end)


@given(
    anchor=days("2020-01-01", "2030-01-01"),
    until=days("2021-01-01", "2029-01-01"),
    cycle=st.sampled_from(["1 day", "1 week", "1 month", "3 month", "1 year"]),
)
def test_periods_follow_each_other_up_to_the_one_after_now(anchor: datetime, until: datetime, cycle: str) -> None:
    start = at("2020-06-15T10:00")

    made = stretches_until(start, "pro", Cycle(anchor, cycle), "UTC", until)

    assert made[0].starts_at == start
    assert all(before.ends_at == after.starts_at for before, after in pairwise(made))
    assert all(one.starts_at < one.ends_at for one in made)
    assert made[-1].starts_at > until >= made[-2].starts_at


def test_after_a_subscription_calendar_months_follow() -> None:
    made = stretches_until(at("2026-12-10T12:30"), "free", None, "Europe/Berlin", at("2026-12-11T00:00"))

    assert [one.ends_at for one in made] == [at("2026-12-31T23:00"), at("2027-01-31T23:00")]
