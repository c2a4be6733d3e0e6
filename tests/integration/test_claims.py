"""Requests that no one script can record: all of them or nothing, whatever others do in that moment."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine

from metering.errors import IntakeUnavailable, InvalidUsage, LimitExceeded, UsageConflict
from metering.intake import admission, claims, scripts
from metering.intake.claims import Claim, Moves, Run
from metering.intake.event import UsageEvent
from metering.intake.values import Recording
from metering.models import Correction
from metering.store.drain import apply_corrections
from metering.store.state import touch
from metering.store.verify import verify
from tests.factories.callers import ApiConsumer
from tests.factories.world import PARTITIONS, World
from tests.integration.test_events_api import event, operator, send

APART = ("acme", "bolt", "initech")
"""Of three partitions."""


@pytest.fixture
def world(world: World) -> World:
    for key in APART:
        world.customer(key, "enterprise")
    assert len({world.intake.partition(key) for key in APART}) == len(APART)
    return world


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who meets a claim is turned away at once: these tests hold it for as long as they look."""
    monkeypatch.setattr(admission, "PATIENCE_SECONDS", -1.0)
    monkeypatch.setattr(claims, "PATIENCE_SECONDS", -1.0)


def claim_of(world: World, *runs: Sequence[UsageEvent], **how: Any) -> Claim:
    found = [Run(world.intake.partition(events[0].customer), events) for events in runs]
    return Claim(world.intake, found, Recording(world.now, 3600, 10**6, **how))


def test_nobody_records_another_payload_meanwhile(world: World) -> None:
    claim = claim_of(world, [world.event("acme", id="a")], [world.event("bolt", id="b")])

    with claim.taken():
        with pytest.raises(IntakeUnavailable):
            world.record(world.event("bolt", id="b", quantity=2))
        with pytest.raises(IntakeUnavailable), claim_of(world, [world.event("bolt", id="b", quantity=2)]).taken():
            pass
        assert claim.record() == []

    with pytest.raises(UsageConflict):
        world.record(world.event("bolt", id="b", quantity=2))
    assert (world.used(), world.used(customer="bolt")) == (1, 1)


def test_who_meets_a_claim_waits_for_what_comes_of_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "PATIENCE_SECONDS", 60.0)
    claim = claim_of(world, [world.event("acme", id="a")])
    met = threading.Event()
    monkeypatch.setattr(admission, "sleep", lambda _: met.set())

    with ThreadPoolExecutor(1) as other, claim.taken():
        waiting = other.submit(world.record, world.event("acme", id="a"))
        assert met.wait(60)
        claim.record()

    assert (waiting.result(), world.used()) == (0, 1)


def test_nobody_moves_a_level_meanwhile(world: World) -> None:
    world.record(world.event("acme", "storage_bytes", 10, id="start"))
    running = world.reserve({"storage_bytes": 1})
    claim = claim_of(world, [world.event("acme", "storage_bytes", -10, id="a")])

    with claim.taken():
        for op in ({"quantity": -1}, {"quantity": 0, "outright": True}):
            with pytest.raises(IntakeUnavailable):
                world.record(world.event("acme", "storage_bytes", **op))
        with pytest.raises(IntakeUnavailable):
            world.settle(running, storage_bytes=-1)
        world.settle(world.reserve({"api_call": 1}), api_call=1)
        assert claim.record() == []

    with pytest.raises(InvalidUsage, match="below zero"):
        world.settle(running, storage_bytes=-1)
    assert world.used("storage_bytes") == 0
    assert world.settle(running, storage_bytes=1).meters[0].used == 1


def test_a_correction_waits_for_the_claim(world: World) -> None:
    world.record(world.event("acme", "storage_bytes", 10, id="a", time=world.event().time))
    world.drain()
    for customer, units in (("acme", -4), ("bolt", 4)):
        partition = world.intake.partition(customer)
        world.session.add(Correction(partition=partition, customer=customer, meter="storage_bytes", units=units))
    world.session.flush()
    claim = claim_of(world, [world.event("acme", "storage_bytes", -10, id="b")])

    with claim.taken():
        assert apply_corrections(world.session, world.redis, range(PARTITIONS)) == 1
        assert (world.used("storage_bytes"), world.used("storage_bytes", "bolt")) == (10, 4)

    assert apply_corrections(world.session, world.redis, range(PARTITIONS)) == 1
    assert world.used("storage_bytes") == 6


def test_the_same_request_again_waits_for_the_first(world: World) -> None:
    said = [[world.event("acme", id="a")], [world.event("bolt", "storage_bytes", 5, id="b")]]
    first, again = claim_of(world, *said), claim_of(world, *said)

    with first.taken():
        with pytest.raises(IntakeUnavailable), again.taken():
            pass
        assert first.record() == []
    with again.taken():
        assert again.record() == []

    assert (world.used(), world.used("storage_bytes", "bolt")) == (1, 5)


def test_what_is_given_back_is_free(world: World) -> None:
    said = [world.event("acme", id="a"), world.event("acme", "storage_bytes", 5, id="b")]

    with pytest.raises(ZeroDivisionError), claim_of(world, said).taken():
        raise ZeroDivisionError

    assert world.record(world.event("acme", id="a", quantity=2), world.event("acme", "storage_bytes", 7, id="b")) == 2


def test_the_claim_of_a_process_that_died_runs_out(world: World) -> None:
    claim = claim_of(world, [world.event("acme", "storage_bytes", 5, id="a")])

    with claim.taken():
        prefix = scripts.prefix(world.intake.partition("acme"))
        names = [*world.redis.scan_iter(prefix + "d:*"), *world.redis.scan_iter(prefix + "w:*")]
        assert len(names) == 2
        assert all(0 < world.redis.pttl(name) <= claims.CLAIM_SECONDS * 1000 for name in names)


def test_nothing_is_recorded_under_a_claim_that_ran_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = claim_of(world, [world.event("acme", id="a")], [world.event("bolt", "storage_bytes", 5, id="b")])

    with claim.taken():
        for run in claim.runs:
            prefix = scripts.prefix(run.partition)
            world.redis.delete(*world.redis.scan_iter(prefix + "d:*"), *world.redis.scan_iter(prefix + "w:*"))
        assert claim.record() == list(claim.runs)
        with pytest.raises(IntakeUnavailable):
            claim.record_again(claim.runs[0])
    with claim.taken():
        monkeypatch.setattr(claims, "SAFE_SECONDS", -1.0)
        with pytest.raises(IntakeUnavailable):
            claim.record()

    assert (world.used(), world.used("storage_bytes", "bolt")) == (0, 0)


def test_what_was_claimed_and_looked_at_is_not_refused_for_its_size(world: World, engine: Engine) -> None:
    most = 2**53 - 1
    claim = claim_of(world, [world.event("acme", id="a", quantity=2)])

    with claim.taken():
        assert {moved.units for moved in claim.look(claim.runs[0], {}).values()} == {2}
        world.record(world.event("acme", id="b", quantity=most))
        assert claim.record() == []

    with pytest.raises(InvalidUsage, match="2\\^53"):
        world.record(world.event("acme", id="c"))
    world.drain()
    assert all(check.holds for check in verify(engine, world.redis))


# -- quota -----------------------------------------------------------------------------------------------------------


def test_room_is_held_for_the_request_alone(world: World) -> None:
    world.customer("small", "free")  # 1,000 API calls
    first, *more = [world.event("small", quantity=quantity) for quantity in (300, 400, 200)]
    claim = claim_of(world, [first], more, enforce=True)

    with claim.taken():
        moves = claim.look(claim.runs[1], claim.look(claim.runs[0], {}))
        with claim.room(moves):
            assert world.held(customer="small") == 900
            with pytest.raises(LimitExceeded):
                world.reserve({"api_call": 101}, "small")
            with pytest.raises(LimitExceeded):
                world.record(world.event("small", quantity=101), enforce=True)
            assert claim.record() == []
    world.drain()

    assert (world.used(customer="small"), world.held(customer="small")) == (900, 0)
    assert [stored.overshoot for stored in world.events()] == [False] * 3


def test_usage_that_came_between_passes_the_limit_and_refuses_no_part(world: World) -> None:
    """Given room that is held for 900 of 1,000 calls, when 500 are recorded as a fact, then all 900 are recorded."""
    world.customer("small", "free")
    runs = [[world.event("small", quantity=quantity)] for quantity in (300, 400, 200)]
    claim = claim_of(world, *runs, enforce=True)

    with claim.taken():
        moves: Moves = {}
        for run in claim.runs:
            moves = claim.look(run, moves)
        with claim.room(moves):
            world.record(world.event("small", quantity=500))
            assert claim.record() == []

    assert (world.used(customer="small"), world.held(customer="small")) == (1400, 0)


def test_there_is_no_room_that_others_took_since_the_look(world: World) -> None:
    world.customer("small", "free")
    claim = claim_of(world, [world.event("small", quantity=600)], enforce=True)

    with claim.taken():
        moves = claim.look(claim.runs[0], {})
        world.record(world.event("small", quantity=500))
        with pytest.raises(LimitExceeded) as refused, claim.room(moves):
            pass

    assert (refused.value.facts["meter"], refused.value.facts["remaining"]) == ("api_call", 500)
    assert (world.used(customer="small"), world.held(customer="small")) == (500, 0)


@pytest.fixture
def sender(app: Flask, world: World) -> ApiConsumer:
    return operator(app, world)


def test_events_of_the_next_period_are_measured_by_its_limit(sender: ApiConsumer, world: World) -> None:
    """Given the last minute of November with all of its quota used, when 501 calls of December come, then December has
    room for them; and for no more than its limit."""
    world.customer("small", "free")
    world.now = world.now.replace(day=30, hour=23, minute=59)
    world.send()
    world.record(world.event("small", quantity=1000))

    def december(first: int, count: int) -> list[dict[str, Any]]:
        more = {"subject": "small", "type": "api_call", "data": {"value": 1}, "time": "2026-12-01T00:00:30Z"}
        return [event(str(number), **more) for number in range(first, first + count)]

    path = "/api/v1/events?enforce=true"
    assert send(sender, december(0, 501), path=path).status_code == 204
    refused = send(sender, december(501, 501), path=path)
    assert (refused.status_code, refused.json["errors"][0]["index"]) == (429, 499)
    assert refused.json["resets_at"] == "2027-01-01T00:00:00Z"
    assert send(sender, december(501, 499), path=path).status_code == 204


@pytest.mark.parametrize("count", [1, 501])
def test_usage_of_a_suspended_customer_is_recorded(sender: ApiConsumer, world: World, count: int) -> None:
    customer = world.customer("small", "free")
    customer.status = "suspended"
    touch(world.session, [customer.id])
    world.session.commit()
    world.send()
    calls = [event(str(number), subject="small", type="api_call", data={"value": 1}) for number in range(count)]

    assert send(sender, calls, path="/api/v1/events?enforce=true").status_code == 204
    assert world.used(customer="small") == count


# -- all at once -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("enforce", ["true", "false"])
def test_the_same_request_from_many_senders_is_recorded_once_and_never_refused(
    app: Flask, sender: ApiConsumer, world: World, monkeypatch: pytest.MonkeyPatch, enforce: str
) -> None:
    """Given room for it once, and a level that suffices once, when four senders send it at the same time."""
    monkeypatch.undo()
    world.customer("small", "free")  # 10,000 tokens
    for number in range(5):
        world.record(world.event("small", "storage_bytes", 1200, id=f"stored {number}"))
        calls = [event(f"c{number}-{n}", subject="small", type="tokens", data={"value": 2}) for n in range(1000)]
        lower = {"subject": "small", "type": "storage_bytes", "data": {"value": -1}}
        body = [*calls, *(event(f"l{number}-{n}", **lower) for n in range(1200))]

        def send_it(_: int, body: list[dict[str, Any]] = body) -> int:
            mine = ApiConsumer(app, sender.secret, "")
            while (status := send(mine, body, path=f"/api/v1/events?enforce={enforce}").status_code) == 503:
                pass  # the first is still at it
            return status

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(send_it, range(4))) == [204] * 4

    assert (world.used("tokens", "small"), world.used("storage_bytes", "small")) == (10_000, 0)


def test_of_requests_that_quarrel_each_is_recorded_whole_or_not_at_all(
    app: Flask, sender: ApiConsumer, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given requests over three partitions that say different things under one identity, or take from a level that does
    not suffice for all, when they come at once, then whichever was refused has left nothing behind."""
    monkeypatch.undo()
    threads, rounds = 4, 25
    world.record(world.event("initech", "storage_bytes", rounds, id="start"))
    start = threading.Barrier(threads)

    def quarrel(thread: int) -> Iterator[tuple[str, int]]:
        mine = ApiConsumer(app, sender.secret, "")
        for number in range(rounds):
            name = f"{thread}-{number}"
            body = [
                event(f"acme-{name}", subject="acme"),
                event(f"shared-{number}", subject="bolt", data={"value": thread // 2}),
                event(f"bolt-{name}", subject="bolt"),
                event(f"level-{name}", subject="initech", type="storage_bytes", data={"value": -1}),
                event(f"initech-{name}", subject="initech"),
            ]
            start.wait(60)
            while (status := send(mine, body[thread % 2 :]).status_code) == 503:
                pass  # the others were quicker for seconds on end: it is to be sent again
            yield name, status

    with ThreadPoolExecutor(threads) as pool:
        answers = dict(pair for found in pool.map(lambda n: list(quarrel(n)), range(threads)) for pair in found)
    world.drain()
    found: dict[str, int] = {}
    for stored in world.events():
        kind, _, name = stored.event_id.partition("-")
        if kind in ("bolt", "level", "initech"):
            found[name] = found.get(name, 0) + 1

    assert found == {name: 3 for name, status in answers.items() if status == 204}
    assert set(answers.values()) == {204, 400, 409}
    assert world.used("storage_bytes", "initech") == rounds - len(found)
