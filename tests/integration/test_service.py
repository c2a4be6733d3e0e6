"""The Python service: record, look, estimate, void."""

from datetime import timedelta
from decimal import Decimal

import pytest

from metering.accounts.customers import find_customer
from metering.errors import (
    BadQuantity,
    Conflict,
    InvalidUsage,
    LimitExceeded,
    NotFound,
    UnknownCustomer,
    UnknownMeter,
    UsageConflict,
)
from metering.service import Metering
from metering.store.void import correct
from tests.factories.callers import keep
from tests.factories.world import World


def test_usage_is_recorded_once(metering: Metering, world: World) -> None:
    world.customer()

    assert metering.record("acme", "tokens", 7, id="t1", properties={"model": "small", "cost": Decimal("0.10")})
    assert not metering.record("acme", "tokens", 7, id="t1", properties={"model": "small", "cost": Decimal("0.10")})
    assert metering.record("acme", "tokens", 7, id="t1", source="elsewhere")
    assert metering.record("acme", "tokens")

    keep(metering)
    assert world.used("tokens") == 15 == world.total("tokens")


def test_an_identity_with_another_payload_is_a_conflict(metering: Metering, world: World) -> None:
    world.customer()
    metering.record("acme", "tokens", 7, id="t1")

    with pytest.raises(UsageConflict):
        metering.record("acme", "tokens", 8, id="t1")


def test_usage_of_the_past_counts_in_its_hour(metering: Metering, world: World) -> None:
    world.customer()

    metering.record("acme", "tokens", 7, time=world.now - timedelta(hours=5))

    keep(metering)
    assert world.events()[0].time == world.now - timedelta(hours=5)


def test_levels_change_or_are_set(metering: Metering, world: World) -> None:
    world.customer()
    metering.record("acme", "storage_bytes", 100)
    metering.record("acme", "storage_bytes", -30)
    assert world.used("storage_bytes") == 70
    with pytest.raises(InvalidUsage):
        metering.record("acme", "storage_bytes", -71)

    metering.record("acme", "storage_bytes", 5, outright=True)

    assert world.used("storage_bytes") == 5


def test_a_limit_holds_only_where_it_is_asked_to(metering: Metering, world: World) -> None:
    world.customer()
    metering.record("acme", "messages", 100)

    with pytest.raises(LimitExceeded) as refused:
        metering.record("acme", "messages", 1, enforce=True)
    assert (refused.value.facts["limit"], refused.value.facts["remaining"]) == (100, 0)

    assert metering.record("acme", "messages", 1)
    assert world.used("messages") == 101


def test_what_cannot_be_recorded_is_refused(metering: Metering, world: World) -> None:
    world.customer()
    naive, old, coming = world.now.replace(tzinfo=None), world.now - timedelta(days=40), world.now + timedelta(hours=1)
    for expected, arguments, more in [
        (UnknownCustomer, ("nobody", "tokens", 1), {}),
        (UnknownMeter, ("acme", "nonsense", 1), {}),
        (BadQuantity, ("acme", "tokens", -1), {}),
        (BadQuantity, ("acme", "tokens", "0.5"), {}),
        (BadQuantity, ("acme", "tokens", float("nan")), {}),
        (BadQuantity, ("acme", "tokens", True), {}),
        (InvalidUsage, ("acme", "tokens", 1), {"time": naive}),
        (InvalidUsage, ("acme", "tokens", 1), {"time": old}),
        (InvalidUsage, ("acme", "tokens", 1), {"time": coming}),
        (InvalidUsage, ("acme", "tokens", 1), {"id": "x" * 300}),
        (InvalidUsage, ("acme", "tokens", 1), {"properties": {"x": object()}}),
        (InvalidUsage, ("acme", "tokens", 1), {"properties": {"x": "y" * 40_000}}),
    ]:
        with pytest.raises(expected):
            metering.record(*arguments, **more)  # type: ignore[arg-type]

    assert world.used("tokens") == 0


def test_a_summary_shows_all_meters(metering: Metering, world: World) -> None:
    world.customer()
    metering.record("acme", "api_call", 250)
    metering.record("acme", "compute_seconds", "1.5")
    world.reserve({"api_call": 50})

    summary = metering.summary("acme")

    assert (summary.customer, summary.plan) == ("acme", "free")
    meters = {one.meter: one for one in summary.meters}
    assert set(meters) == set(world.catalog.meters)
    call = meters["api_call"]
    assert (call.used, call.held, call.limit, call.remaining, call.percent) == (250, 50, 1000, 700, 25)
    assert call.resets_at == summary.period.ends_at
    assert meters["compute_seconds"].used == Decimal("1.5")
    assert meters["storage_bytes"].resets_at is None


def test_a_limit_can_be_asked_about(metering: Metering, world: World) -> None:
    world.customer()
    metering.record("acme", "messages", 98)

    assert metering.check_limit("acme", "messages", 2).allowed
    assert not metering.check_limit("acme", "messages", 3).allowed
    assert world.held("messages") == 0
    world.customer("big", "enterprise")
    assert metering.check_limit("big", "messages", 10**12).allowed
    with pytest.raises(UnknownCustomer):
        metering.check_limit("nobody", "messages")


def test_the_current_period_is_the_stored_one(metering: Metering, world: World) -> None:
    world.customer()

    period = metering.current_period("acme")

    stored = world.periods()[0]
    assert (period.id, period.starts_at, period.ends_at) == (stored.id, stored.starts_at, stored.ends_at)
    world.advance(days=100)  # no job has made a period meanwhile
    period = metering.current_period("acme")
    assert period.starts_at <= world.now < period.ends_at


def test_the_estimate_counts_what_was_drained(metering: Metering, world: World) -> None:
    world.customer(plan="pro")
    metering.record("acme", "api_call", 10_500)
    keep(metering)

    estimate = metering.estimate("acme")

    amounts = {line.meter: line.amount for line in estimate.lines}
    assert amounts["api_call"] == Decimal("0.50")
    assert estimate.total == Decimal("49.50")
    with pytest.raises(UnknownCustomer):
        metering.estimate("nobody")


def test_a_voided_event_leaves_the_counters_and_the_books(metering: Metering, world: World) -> None:
    world.customer()
    metering.record("acme", "tokens", 7, id="t1")
    metering.record("acme", "tokens", 5, id="t2")
    keep(metering)

    metering.void("acme", "t1", reason="sent by mistake")

    keep(metering)
    assert (world.used("tokens"), world.total("tokens")) == (5, 5)
    with pytest.raises((Conflict, NotFound)):
        metering.void("acme", "t1", reason="again")
    with pytest.raises(NotFound):
        metering.void("acme", "t9", reason="unknown")


def test_a_level_is_not_voided_below_zero(metering: Metering, world: World) -> None:
    """Given 10 bytes of which 8 were deleted, when the 10 are voided or made 7, then they stay; the 8 must go first."""
    world.customer()
    metering.record("acme", "storage_bytes", 10, id="stored")
    metering.record("acme", "storage_bytes", -8, id="deleted")
    keep(metering)

    with pytest.raises(Conflict, match="below zero"):
        metering.void("acme", "stored", reason="never was")
    with pytest.raises(Conflict, match="below zero"):
        put_right(metering, "stored", 7)
    keep(metering)
    assert (world.used("storage_bytes"), [event.voided_at for event in world.events()]) == (2, [None, None])

    put_right(metering, "stored", 8)
    metering.void("acme", "deleted", reason="never was")
    keep(metering)
    assert world.used("storage_bytes") == 8


def test_a_level_that_what_is_late_brought_below_zero_may_rise(metering: Metering, world: World) -> None:
    """Given 100 of which 80 were deleted, when they turn out to have been 10, then it stands at -70 and can rise."""
    world.customer()
    ago = [world.now - timedelta(seconds=seconds) for seconds in (50, 10, 20)]
    metering.record("acme", "storage_bytes", 100, outright=True, time=ago[0])
    metering.record("acme", "storage_bytes", -80, time=ago[1])
    metering.record("acme", "storage_bytes", 10, outright=True, time=ago[2])
    keep(metering)
    assert world.used("storage_bytes") == -70

    with pytest.raises(InvalidUsage, match="below zero"):
        metering.record("acme", "storage_bytes", -1)
    metering.record("acme", "storage_bytes", 1)
    call = world.reserve({"storage_bytes": 1})
    world.settle(call, storage_bytes=1)

    assert world.used("storage_bytes") == -68


def put_right(metering: Metering, id: str, quantity: int) -> None:
    with metering.runtime.transaction() as session:
        found = find_customer(session, "acme")
        now = metering.clock()
        correct(
            session,
            metering.runtime.intake,
            metering.catalog,
            found,
            "python",
            id,
            quantity,
            reason="was",
            actor="test",
            now=now,
        )
