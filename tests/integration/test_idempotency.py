"""Idempotency-Key: a repeated request does not run again, and counts once."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import select

from metering import metered
from metering.calls.call import Call
from metering.calls.idempotency import idempotency_key
from metering.embedded import Addresses
from metering.intake.scripts import prefix
from metering.intake.values import Ask, Replay
from metering.models import SetAside
from metering.store import inbox
from tests.factories.callers import ApiConsumer, consumer
from tests.factories.hosts import host_app
from tests.factories.world import World


@pytest.fixture
def host(world: World, servers: Addresses, tmp_path: Path) -> Iterator[Flask]:
    addresses = {"database_url": servers.database_url, "redis_url": servers.redis_url}
    with host_app(world, tmp_path, idempotency_max_bytes=1000, **addresses) as app:
        yield app


@pytest.fixture
def acme(host: Flask, world: World) -> ApiConsumer:
    return consumer(host, world)


def runs(host: Flask) -> int:
    count: int = host.extensions["runs"]["count"]
    return count


def test_a_repeated_request_gets_the_stored_answer(acme: ApiConsumer, host: Flask, world: World) -> None:
    first = acme.post("/items/one", key="k1")
    again = acme.post("/items/one", key="k1")

    assert (again.status_code, again.data, again.content_type) == (200, first.data, first.content_type)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert (runs(host), world.used(), world.held()) == (1, 1, 0)
    assert again.headers["X-RateLimit-Remaining"] == "999", "the limits of now, not of then"


def test_an_answer_below_500_is_stored_as_it_was(acme: ApiConsumer, host: Flask, world: World) -> None:
    for _ in range(2):
        answer = acme.call("GET", "/status/404", key="k1")
        assert (answer.status_code, answer.text) == (404, "answer")

    assert world.used() == 1


def test_another_request_under_the_same_key_is_a_mismatch(acme: ApiConsumer, host: Flask, world: World) -> None:
    acme.post("/items/one", key="k1", data=b"body")

    for path, body in (("/items/two", b"body"), ("/items/one", b"other"), ("/items/one?size=1", b"body")):
        answer = acme.post(path, key="k1", data=body)
        assert (answer.status_code, answer.json["type"]) == (422, "/problems/idempotency-mismatch")

    assert (runs(host), world.used()) == (1, 1)


def test_the_key_belongs_to_customer_method_and_route(acme: ApiConsumer, host: Flask, world: World) -> None:
    stranger = consumer(host, world, "stranger")
    acme.post("/call", key="k1")

    assert acme.get("/call", key="k1").json == {"run": 2}
    assert acme.post("/items/one", key="k1").json["run"] == 3
    assert stranger.post("/call", key="k1").json == {"run": 4}
    assert (world.used(), world.used(customer="stranger")) == (3, 1)


def test_while_the_first_request_runs_the_second_is_told_so(acme: ApiConsumer, host: Flask, world: World) -> None:
    entered, finish = threading.Event(), threading.Event()

    @host.post("/slow")
    @metered("api_call")
    def slow() -> str:
        entered.set()
        assert finish.wait(20)
        return "done"

    with ThreadPoolExecutor() as pool:
        first = pool.submit(acme.post, "/slow", key="k1")
        assert entered.wait(20)
        second = acme.post("/slow", key="k1")
        finish.set()

    assert (second.status_code, second.json["type"]) == (409, "/problems/idempotency-running")
    assert first.result().text == "done"
    assert acme.post("/slow", key="k1").headers["Idempotent-Replayed"] == "true"
    assert world.used() == 1


def test_of_many_at_once_one_runs(acme: ApiConsumer, host: Flask, world: World) -> None:
    def call(_: int) -> int:
        return acme.post("/items/one", key="k1").status_code

    with ThreadPoolExecutor(16) as pool:
        statuses = set(pool.map(call, range(64)))

    assert statuses <= {200, 409}
    assert (runs(host), world.used(), world.held()) == (1, 1, 0)


@pytest.mark.parametrize("path", ["/status/500", "/raises", "/only-found/404"])
def test_a_call_that_was_not_charged_frees_the_key(acme: ApiConsumer, world: World, path: str) -> None:
    first = acme.get(path, key="k1")
    again = acme.get(path, key="k1")

    assert first.status_code == again.status_code
    assert "Idempotent-Replayed" not in again.headers
    assert world.used() == 0


def test_a_refused_call_frees_the_key(acme: ApiConsumer, world: World) -> None:
    world.record(world.event(quantity=1000))
    assert acme.post("/call", key="k1").status_code == 429
    world.advance(days=21)

    assert acme.post("/call", key="k1").status_code == 200


def test_a_key_whose_process_died_is_free_after_its_lease(acme: ApiConsumer, host: Flask, world: World) -> None:
    class Killed(BaseException):
        pass

    host.extensions["metering"].calls.release = lambda call: None  # a killed process gives nothing back

    @host.post("/dies")
    @metered("api_call")
    def dies() -> str:
        if len(died) == 0:
            died.append(1)
            raise Killed
        return "done"

    died: list[int] = []
    with pytest.raises(Killed):
        acme.post("/dies", key="k1")
    assert acme.post("/dies", key="k1").status_code == 409

    world.advance(seconds=31)

    assert acme.post("/dies", key="k1").text == "done"
    assert (world.used(), world.held()) == (1, 0)


def test_a_streamed_answer_is_stored_when_it_is_complete(acme: ApiConsumer, host: Flask, world: World) -> None:
    first = acme.post("/stream?parts=5", key="k1")
    again = acme.post("/stream?parts=5", key="k1")

    assert again.text == first.text == "x" * 50
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (runs(host), world.used(), world.used("tokens")) == (1, 1, 5)


@pytest.mark.parametrize("path", ["/items/one?size=2000", "/stream?parts=200"])
def test_an_answer_that_was_too_large_is_not_run_again_either(
    acme: ApiConsumer, host: Flask, world: World, path: str
) -> None:
    assert acme.post(path, key="k1").status_code == 200

    again = acme.post(path, key="k1")

    assert (again.status_code, again.json["type"]) == (409, "/problems/idempotency-replay-unavailable")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (runs(host), world.used()) == (1, 1)


def test_a_stream_that_was_broken_off_is_not_run_again(acme: ApiConsumer, host: Flask, world: World) -> None:
    answer = acme.post("/stream?parts=50", key="k1", buffered=False)
    assert acme.post("/stream?parts=50", key="k1").json["type"] == "/problems/idempotency-running"
    answer.close()

    assert acme.post("/stream?parts=50", key="k1").json["type"] == "/problems/idempotency-replay-unavailable"
    assert (runs(host), world.used()) == (1, 1)


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there"])
def test_a_key_that_is_none_is_refused(acme: ApiConsumer, host: Flask, world: World, key: str) -> None:
    answer = acme.post("/call", key=key)

    assert (answer.status_code, answer.json["type"]) == (400, "/problems/invalid-usage")
    assert (runs(host), world.used()) == (0, 0)


def test_a_running_key_goes_by_itself_when_its_process_dies(acme: ApiConsumer, host: Flask, world: World) -> None:
    """Also after it was renewed: nothing may stay in Redis for ever."""
    metering = host.extensions["metering"]
    answer = acme.post("/stream", key="k1", buffered=False)
    (name,) = world.redis.scan_iter(match=prefix(world.intake.partition("acme")) + "i:*")

    metering.calls._renewer.renew_all()

    assert 0 < world.redis.pttl(name) <= 31_000
    answer.close()
    assert world.redis.pttl(name) > 80_000_000


def test_a_call_whose_settlement_went_to_the_inbox_counts_once_when_it_is_repeated(world: World) -> None:
    """Given a call that Redis could not settle and store the answer of, when its request is made again and settled."""
    world.customer()
    key = idempotency_key("k1", method="POST", route="/x", request=[b"body"], window_seconds=86_400)

    def run() -> Call:
        admission = world.reserve({"api_call": 1}, idempotency=key)
        return Call(admission, "api_call", world.catalog, used={"api_call": Decimal(1)}, idempotency=key)

    first = run()
    inbox.put(world.session, world.intake, first.events({"duration_ms": 1}))
    world.session.commit()
    world.advance(seconds=31)  # the lease, and with it the first run's claim on the key, is over
    second = run()
    world.intake.settle(second.admission, second.events({"duration_ms": 2}), now=world.now, answer=b"stored")
    inbox.feed(world.session, world.intake, now=world.now, identity_window_seconds=3600)
    world.session.commit()
    world.drain()

    assert world.total() == 1 == world.used()
    assert world.session.scalars(select(SetAside)).all() == []
    again = world.intake.reserve(
        Ask(reserve={"api_call": 1}, customer="acme", idempotency=key),
        rid="again",
        partition=world.intake.partition("acme"),
        now=world.now,
    )
    assert again == Replay("acme", b"stored")


def test_the_same_key_in_a_later_window_is_charged_again(world: World) -> None:
    world.customer()
    key = idempotency_key("k1", method="POST", route="/x", request=[b"body"], window_seconds=86_400)
    for _ in range(2):
        admission = world.reserve({"api_call": 1}, idempotency=key)
        call = Call(admission, "api_call", world.catalog, used={"api_call": Decimal(1)}, idempotency=key)
        world.intake.settle(admission, call.events({}), now=world.now, answer=b"stored")
        world.advance(days=1, seconds=1)
        for name in world.redis.scan_iter(match="m:*:i:*"):
            world.redis.delete(name)  # as its expiry would
    world.drain()

    assert world.total() == 2
