"""A correction lowers a level while calls lower it, too: one of them is refused, the level never falls below zero."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from metering.accounts.customers import find_customer
from metering.errors import Conflict, IntakeUnavailable, InvalidUsage
from metering.intake import admission, claims, scripts
from metering.store.verify import verify
from metering.store.void import void
from tests.factories.world import World

ROUNDS = 40


@pytest.fixture
def kept(world: World) -> str:
    """The id of an event that stored 10 bytes."""
    world.customer()
    world.record(world.event(meter="storage_bytes", quantity=10, id="kept"))
    world.drain()
    return "kept"


def take_back(world: World, session: Session, id: str) -> None:
    customer = find_customer(session, "acme")
    void(session, world.intake, customer, "test", id, reason="never was", actor="test", now=world.now)


def lower(world: World, by: int, id: str = "deleted") -> None:
    world.record(world.event(meter="storage_bytes", quantity=-by, id=id))


def test_what_calls_took_since_the_drain_counts(world: World, kept: str) -> None:
    lower(world, 8)

    with pytest.raises(Conflict, match="storage_bytes: the level would fall below zero"):
        take_back(world, world.session, kept)
    world.session.rollback()

    world.drain()
    assert world.used("storage_bytes") == 2
    lower(world, 2, id="the rest")  # nothing is claimed any more


def test_what_calls_stored_since_the_drain_is_nothing_to_lend(world: World, kept: str) -> None:
    """PostgreSQL, which does not know of it, would show less than nothing."""
    lower(world, 4)
    world.drain()
    world.record(world.event(meter="storage_bytes", quantity=100))

    with pytest.raises(Conflict, match="below zero"):
        take_back(world, world.session, kept)


def test_it_holds_for_calls_as_soon_as_it_is_committed(world: World, kept: str) -> None:
    world.record(world.event(meter="storage_bytes", quantity=3))
    world.drain()

    take_back(world, world.session, kept)
    assert world.used("storage_bytes") == 13
    world.session.commit()

    assert world.used("storage_bytes") == 3
    with pytest.raises(InvalidUsage, match="below zero"):
        lower(world, 4)
    lower(world, 3, id="all of it")
    world.drain()
    assert world.used("storage_bytes") == 0


@pytest.mark.parametrize("end", [Session.commit, Session.rollback], ids=["committed", "given up"])
def test_nobody_moves_the_level_until_it_is_decided(
    world: World, kept: str, monkeypatch: pytest.MonkeyPatch, end: Callable[[Session], None]
) -> None:
    monkeypatch.setattr(admission, "PATIENCE_SECONDS", -1.0)
    world.record(world.event(meter="storage_bytes", quantity=1))
    world.drain()

    take_back(world, world.session, kept)
    with pytest.raises(IntakeUnavailable):
        lower(world, 1)
    end(world.session)

    lower(world, 1)


def test_a_correction_that_took_too_long_is_given_up(world: World, kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "SAFE_SECONDS", -1.0)

    take_back(world, world.session, kept)
    with pytest.raises(IntakeUnavailable, match="too long"):
        world.session.commit()
    world.session.rollback()

    world.drain()
    assert world.used("storage_bytes") == 10
    lower(world, 10)


def test_nothing_is_taken_back_from_counters_that_are_being_rebuilt(world: World, kept: str) -> None:
    world.redis.delete(scripts.prefix(world.intake.partition("acme")) + "gen")

    with pytest.raises(IntakeUnavailable):
        take_back(world, world.session, kept)


def test_usage_needs_no_such_care(world: World, kept: str) -> None:
    """And is taken back while Redis is away, too."""
    world.record(world.event(quantity=5, id="calls"))
    world.drain()
    world.redis.delete(scripts.prefix(world.intake.partition("acme")) + "gen")

    take_back(world, world.session, "calls")
    world.session.commit()

    assert world.total("api_call") == 0


def test_corrections_and_calls_at_once(world: World, engine: Engine) -> None:
    """Given 10 bytes, again and again, when one takes all back and another deletes 6, then one of them is refused."""
    world.customer()

    def void_it(id: str) -> None:
        with Session(engine) as session, session.begin():
            take_back(world, session, id)

    for turn in range(ROUNDS):
        world.record(world.event(meter="storage_bytes", quantity=10, id=f"kept {turn}"))
        world.drain()
        with ThreadPoolExecutor(2) as both:
            voiding = both.submit(void_it, f"kept {turn}")
            deleting = both.submit(lower, world, 6, f"deleted {turn}")
        refused = [type(one) for one in (voiding.exception(), deleting.exception()) if one]
        assert refused in ([Conflict], [InvalidUsage])
        left = 4 if refused == [Conflict] else 0
        assert world.used("storage_bytes") == left
        if left:
            lower(world, left, id=f"rest {turn}")
        world.drain()
    assert [check.name for check in verify(engine, world.redis) if not check.holds] == []
