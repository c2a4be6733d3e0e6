"""Subscriptions that came and went before we heard of them are periods of their customer all the same."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from metering.stripe_sync.mirror import mirror
from tests.factories import canned
from tests.factories.canned import CUSTOMER, CannedStripe
from tests.factories.world import START, World

MONTH = timedelta(days=30)
NOVEMBER, DECEMBER = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture
def stripe() -> CannedStripe:
    return CannedStripe()


def hear(world: World, stripe: CannedStripe, subscription: Any) -> None:
    mirror(world.session, stripe.api, world.catalog, subscription["id"], now=world.now)
    world.session.commit()
    world.send()


def spans(world: World) -> list[tuple[datetime, datetime, str]]:
    return [(one.starts_at, one.ends_at, one.plan) for one in world.periods()]


def ended(stripe: CannedStripe, start: datetime, end: datetime) -> Any:
    at = int(end.timestamp())
    return stripe.put(canned.subscription(start, start + MONTH, status="canceled", ended_at=at, canceled_at=at))


def test_one_that_ended_before_we_heard_of_it(world: World, stripe: CannedStripe) -> None:
    world.customer("acme", "free", stripe_customer_id=CUSTOMER)
    end = START + timedelta(minutes=20)
    made = ended(stripe, START, end)
    world.record(world.event("acme", quantity=3))
    world.advance(hours=1)
    world.drain()

    hear(world, stripe, made)

    assert spans(world)[:3] == [(NOVEMBER, START, "free"), (START, end, "pro"), (end, DECEMBER, "free")]
    before = world.find("acme").state_version
    hear(world, stripe, made)
    assert world.find("acme").state_version == before


@pytest.mark.parametrize("newest_first", [True, False])
def test_one_after_which_another_was_bought(world: World, stripe: CannedStripe, newest_first: bool) -> None:
    world.customer("acme", "free", stripe_customer_id=CUSTOMER)
    end, again = START + timedelta(minutes=20), START + timedelta(minutes=50)
    first = ended(stripe, START, end)
    second = stripe.put(canned.subscription(again, again + MONTH) | {"id": "sub_second"})
    world.advance(hours=1)

    for one in (second, first) if newest_first else (first, second):
        hear(world, stripe, one)

    assert spans(world)[:4] == [
        (NOVEMBER, START, "free"),
        (START, end, "pro"),
        (end, again, "free"),
        (again, again + MONTH, "pro"),
    ]
