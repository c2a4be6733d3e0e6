"""Billing periods: made ahead, without gaps, and closed only when all usage of theirs is stored."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from sqlalchemy import select

from metering.billing.periods import close_periods, customers_without_next, ensure_periods
from metering.billing.rhythm import UnknownTimeZone, month_around
from metering.models import Period
from metering.store.status import flow
from tests.factories.world import World


@pytest.mark.parametrize(
    ("timezone", "moment", "start", "end"),
    [
        ("UTC", "2026-02-28T23:59:59", "2026-02-01T00:00", "2026-03-01T00:00"),
        ("Europe/Berlin", "2026-03-10T00:00:00", "2026-02-28T23:00", "2026-03-31T22:00"),  # summer time begins
        ("Europe/Berlin", "2026-10-31T23:30:00", "2026-10-31T23:00", "2026-11-30T23:00"),  # November by local time
        ("Asia/Kolkata", "2026-01-31T18:29:59", "2025-12-31T18:30", "2026-01-31T18:30"),
        ("Asia/Kolkata", "2026-01-31T18:30:00", "2026-01-31T18:30", "2026-02-28T18:30"),
    ],
)
def test_a_month_is_a_calendar_month_of_the_customer(timezone: str, moment: str, start: str, end: str) -> None:
    at = datetime.fromisoformat(moment).replace(tzinfo=UTC)

    found = month_around(at, timezone)

    assert [edge.strftime("%Y-%m-%dT%H:%M") for edge in found] == [start, end]


def test_an_unknown_time_zone_is_refused() -> None:
    with pytest.raises(UnknownTimeZone):
        month_around(datetime.now(UTC), "Mars/Olympus")


def test_after_months_without_the_job_periods_are_made_without_a_gap(world: World) -> None:
    customer = world.customer(timezone="America/New_York")
    world.advance(days=150)

    assert [one.id for one in customers_without_next(world.session, world.now)] == [customer.id]
    ensure_periods(world.session, [customer], world.now)

    periods = world.session.scalars(select(Period).order_by(Period.starts_at)).all()
    assert all(one.ends_at == other.starts_at for one, other in pairwise(periods))
    assert periods[-2].starts_at <= world.now < periods[-2].ends_at
    assert customers_without_next(world.session, world.now) == []
    assert ensure_periods(world.session, [customer], world.now) == []


def test_a_period_stays_open_while_usage_admitted_in_it_still_waits(world: World) -> None:
    world.customer()
    november = world.periods()[0]
    world.now = november.ends_at - timedelta(minutes=1)
    world.record(world.event(quantity=5))
    world.now = november.ends_at + timedelta(hours=2)

    assert close_periods(world.session, world.redis, now=world.now, grace_seconds=3600) == 0
    world.session.commit()
    world.drain()
    assert close_periods(world.session, world.redis, now=world.now, grace_seconds=3600) == 1
    world.session.commit()

    (event,) = world.events()
    assert (event.period_id, event.late) == (november.id, False)


def test_a_period_takes_late_events_until_its_grace_is_over(world: World) -> None:
    world.customer()
    world.now = world.periods()[0].ends_at + timedelta(minutes=59)

    assert close_periods(world.session, world.redis, now=world.now, grace_seconds=3600) == 0
    world.advance(minutes=2)
    assert close_periods(world.session, world.redis, now=world.now, grace_seconds=3600) == 1


def test_the_lag_is_the_age_of_the_oldest_usage_that_waits(world: World) -> None:
    world.customer()
    world.drain()
    world.advance(days=3)
    world.record(world.event())
    world.advance(seconds=7)

    found = flow(world.session, world.redis, now=world.now)

    assert (found.backlog_entries, found.lag_seconds, found.lost_partitions) == (1, 7.0, 0)
