"""An outage of Redis or PostgreSQL has a stated answer, and nothing that was served is lost or counted twice."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import func, select

from metering.embedded import Addresses
from metering.errors import IntakeUnavailable
from metering.intake.scripts import prefix
from metering.keeper import Keeper
from metering.models import Inbox, SetAside
from metering.service import Metering
from tests.conftest import running_app
from tests.factories.callers import ApiConsumer, consumer, keep
from tests.factories.fault_proxy import FaultProxy, postgres_proxy, redis_proxy
from tests.factories.hosts import add_views
from tests.factories.world import World


class Outage:
    """The product with a door in front of each server that the test can shut."""

    def __init__(self, app: Flask, world: World, redis: FaultProxy, postgres: FaultProxy) -> None:
        self.app, self.world, self.redis, self.postgres = app, world, redis, postgres
        self.metering: Metering = app.extensions["metering"]
        self.acme: ApiConsumer = consumer(app, world)

    def inbox(self) -> int:
        self.world.session.commit()
        return self.world.session.scalar(select(func.count()).select_from(Inbox)) or 0

    def recover(self) -> None:
        self.redis.mend()
        self.postgres.mend()
        keep(self.metering)


def start(world: World, servers: Addresses, home: Path, on_outage: str) -> Iterator[Outage]:
    redis, redis_url = redis_proxy(servers.redis_url)
    postgres, database_url = postgres_proxy(servers.database_url)
    settings = {"redis_url": redis_url, "database_url": database_url, "on_outage": on_outage}
    with running_app(world, home, **settings) as app:
        add_views(app)
        app.config["WTF_CSRF_CHECK_DEFAULT"] = False  # these views stand outside of the API's blueprints
        yield Outage(app, world, redis, postgres)
    redis.cut()
    postgres.cut()


@pytest.fixture
def denying(world: World, servers: Addresses, tmp_path: Path) -> Iterator[Outage]:
    yield from start(world, servers, tmp_path, "deny")


@pytest.fixture
def allowing(world: World, servers: Addresses, tmp_path: Path) -> Iterator[Outage]:
    yield from start(world, servers, tmp_path, "allow")


# -- Redis is away, and usage is denied --------------------------------------------------------------------------


def test_denied_calls_are_told_when_to_come_back(denying: Outage) -> None:
    denying.redis.cut()

    answer = denying.acme.get("/api/v1/sample/ping")

    assert (answer.status_code, answer.content_type) == (503, "application/problem+json")
    assert answer.json["type"] == "/problems/intake-unavailable"
    assert 0 < int(answer.headers["Retry-After"]) <= 60
    assert denying.inbox() == 0
    denying.recover()
    assert denying.acme.get("/api/v1/sample/ping").status_code == 200
    assert denying.world.used() == 1


def test_counters_that_are_being_rebuilt_deny_as_well(denying: Outage) -> None:
    world = denying.world
    world.redis.delete(prefix(world.intake.partition("acme")) + "gen")

    assert denying.acme.get("/api/v1/sample/ping").status_code == 503
    assert denying.acme.get("/api/v1/usage").status_code == 503

    assert world.rebuild_lost() == [world.intake.partition("acme")]
    assert denying.acme.get("/api/v1/sample/ping").status_code == 200


def test_a_call_that_ends_while_redis_is_away_is_counted_later_once(denying: Outage) -> None:
    answer = denying.acme.get("/stream?parts=5", buffered=False)
    denying.redis.cut()

    assert answer.text == "x" * 50
    answer.close()

    assert denying.inbox() == 2
    denying.recover()
    keep(denying.metering)
    world = denying.world
    assert (world.used(), world.used("tokens"), world.total("tokens")) == (1, 5, 5)
    world.advance(seconds=31)
    assert (world.held(), world.held("tokens")) == (0, 0)


def test_a_settlement_whose_reply_was_lost_counts_once(denying: Outage) -> None:
    """It was counted, nobody heard of it, and the inbox has it too."""
    calls, intake = denying.metering.calls, denying.metering.runtime.intake
    call = calls.started(denying.world.reserve({"api_call": 1}), "api_call", Decimal(1))
    events = call.events({"path": "/call"})

    intake.settle(call.admission, events, now=denying.world.now)
    denying.metering.keep_for_later(events)
    calls.release(call)
    keep(denying.metering)

    assert (denying.world.used(), denying.world.total()) == (1, 1)


def test_a_failing_call_during_an_outage_fails_as_ever(denying: Outage) -> None:
    answer = denying.acme.get("/stream?parts=5", buffered=False)
    denying.redis.cut()
    denying.postgres.cut()

    with pytest.raises(IntakeUnavailable):
        answer.close()

    denying.recover()
    denying.world.advance(seconds=31)
    assert (denying.world.used(), denying.world.held()) == (0, 0)


# -- Redis is away, and calls are allowed ------------------------------------------------------------------------


def test_allowed_calls_are_served_and_counted_later_once(allowing: Outage) -> None:
    allowing.redis.cut()

    assert allowing.acme.get("/api/v1/sample/ping").status_code == 200
    assert allowing.acme.post("/tokens?most=50&first=20").status_code == 200
    assert allowing.acme.get("/stream?parts=5").text == "x" * 50
    assert allowing.acme.get("/status/500").status_code == 500

    assert allowing.inbox() == 5
    allowing.recover()
    keep(allowing.metering)
    world = allowing.world
    assert (world.used(), world.total()) == (3, 3)
    assert (world.used("tokens"), world.total("tokens")) == (25, 25)
    assert allowing.inbox() == 0


def test_allowed_calls_still_need_a_good_key(allowing: Outage) -> None:
    reader = consumer(allowing.app, allowing.world, "reader", "free", "usage:read")
    allowing.redis.cut()
    stranger = ApiConsumer(allowing.app, "mk_00_" + "x" * 43, "nobody")

    assert stranger.get("/api/v1/sample/ping").status_code == 401
    assert reader.get("/api/v1/sample/ping").json["scope"] == "meter"
    assert allowing.inbox() == 0


def test_a_repeated_idempotency_key_counts_once_although_it_runs_again(allowing: Outage) -> None:
    allowing.redis.cut()

    assert allowing.acme.post("/items/one", key="k1").json["run"] == 1
    assert allowing.acme.post("/items/one", key="k1").json["run"] == 2
    assert allowing.acme.post("/items/one", key="k2").json["run"] == 3

    allowing.recover()
    world = allowing.world
    assert (world.used(), world.total()) == (2, 2)
    assert world.session.scalars(select(SetAside)).all() == []


def test_allowed_usage_is_recorded_by_the_service_too(allowing: Outage) -> None:
    allowing.redis.cut()

    assert allowing.metering.record("acme", "tokens", 7, id="t1")
    assert allowing.metering.record("acme", "tokens", 7, id="t1")

    allowing.recover()
    assert (allowing.world.used("tokens"), allowing.world.total("tokens")) == (7, 7)


def test_with_both_servers_away_even_allowed_calls_are_refused(allowing: Outage) -> None:
    allowing.redis.cut()
    allowing.postgres.cut()

    assert allowing.acme.get("/api/v1/sample/ping").status_code == 503


def test_a_file_can_be_written_without_redis_where_calls_are_allowed(allowing: Outage) -> None:
    allowing.redis.cut()
    assert allowing.acme.put("/api/v1/sample/files/notes", b"x" * 10).status_code == 201
    assert allowing.acme.put("/api/v1/sample/files/notes", b"x" * 4).status_code == 200

    allowing.recover()

    assert allowing.world.used("storage_bytes") == 4


def test_a_file_is_not_written_without_redis_where_calls_are_denied(denying: Outage) -> None:
    denying.redis.cut()

    assert denying.acme.put("/api/v1/sample/files/notes", b"x" * 10).status_code == 503

    denying.recover()
    assert denying.acme.get("/api/v1/sample/files/notes").status_code == 404
    assert denying.world.used("storage_bytes") == 0


# -- PostgreSQL is away ------------------------------------------------------------------------------------------


def test_calls_go_on_without_postgresql(denying: Outage) -> None:
    denying.postgres.cut()

    assert [denying.acme.get("/api/v1/sample/ping").status_code for _ in range(3)] == [200] * 3
    assert denying.acme.get("/api/v1/usage").status_code == 403, "the key has no such scope, and that is known"

    assert denying.world.used() == 3
    denying.recover()
    assert denying.world.total() == 3


def test_what_needs_postgresql_says_that_it_is_away(denying: Outage) -> None:
    denying.postgres.cut()

    answer = denying.acme.put("/api/v1/sample/files/notes", b"x")

    assert (answer.status_code, answer.json["type"]) == (503, "/problems/intake-unavailable")
    assert (denying.world.used(), denying.world.held(), denying.world.held("storage_bytes")) == (0, 0, 0)


def test_the_keeper_survives_both(denying: Outage) -> None:
    keeper = Keeper(denying.metering.runtime)
    denying.redis.cut()
    assert not keeper._guarded("drain", keeper.drain_all)
    denying.redis.mend()
    denying.postgres.cut()
    assert not keeper._guarded("drain", keeper.drain_all)
    denying.postgres.mend()
    assert keeper._guarded("drain", keeper.drain_all)
