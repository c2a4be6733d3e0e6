"""`@metered`: admit, run the view, settle. What a call counts, what it answers and what it gives back."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
from flask import Flask, Response
from sqlalchemy import select

from metering.accounts.keys import SCOPES, create_key
from metering.embedded import Addresses
from metering.ids import NewKey
from metering.models import ApiKey, Customer, Event, SetAside
from tests.conftest import running_app
from tests.factories.callers import ApiConsumer, consumer, keep
from tests.factories.hosts import add_views, host_app
from tests.factories.world import World


@pytest.fixture
def host(world: World, servers: Addresses, tmp_path: Path) -> Iterator[Flask]:
    with host_app(world, tmp_path, database_url=servers.database_url, redis_url=servers.redis_url) as app:
        yield app


@pytest.fixture
def acme(host: Flask, world: World) -> ApiConsumer:
    return consumer(host, world)


# -- what is counted ---------------------------------------------------------------------------------------------


def test_a_call_is_recorded_with_what_it_was(acme: ApiConsumer, world: World) -> None:
    assert acme.post("/units", json={"units": 3}).json == {"customer": "acme"}

    assert world.used() == 3
    world.drain()
    (event,) = world.events()
    assert (event.units, event.time, event.source) == (3, world.now, "call")
    assert event.key_id == world.session.scalars(select(ApiKey.id)).one()
    properties = event.properties
    assert (properties["path"], properties["method"], properties["status"]) == ("/units", "POST", 200)
    assert properties["duration_ms"] >= 0


def test_real_figures_replace_what_was_reserved(acme: ApiConsumer, world: World) -> None:
    acme.post("/tokens?most=500&first=20&second=22")
    acme.post("/seconds")
    acme.post("/seconds?real=0.25")

    assert (world.used("tokens"), world.held("tokens")) == (42, 0)
    assert (world.used("compute_seconds"), world.held("compute_seconds")) == (1_750_000, 0)


def test_a_reserved_meter_that_was_not_used_is_not_recorded(acme: ApiConsumer, world: World) -> None:
    acme.post("/tokens?most=500")

    world.drain()
    assert [event.units for event in world.events()] == [1]


def test_more_than_was_reserved_is_recorded_in_full_and_flagged(acme: ApiConsumer, world: World) -> None:
    world.record(world.event(meter="tokens", quantity=9_990))

    assert acme.post("/tokens?most=10&first=50").status_code == 200

    assert world.used("tokens") == 10_040
    world.drain()
    flagged = world.session.scalars(select(Event).where(Event.overshoot)).all()
    assert [event.units for event in flagged] == [50]


@pytest.mark.parametrize(
    "path", ["/raises", "/status/500", "/status/503", "/abort/500", "/charge-breaks", "/status/413"]
)
def test_a_failed_call_is_given_back(acme: ApiConsumer, world: World, path: str) -> None:
    assert acme.get(path).status_code >= 413

    assert (world.used(), world.held()) == (0, 0)


@pytest.mark.parametrize(
    ("path", "status"), [("/status/404", 404), ("/abort/404", 404), ("/abort-response", 418), ("/status/302", 302)]
)
def test_other_answers_are_charged(acme: ApiConsumer, world: World, path: str, status: int) -> None:
    assert acme.get(path).status_code == status

    assert (world.used(), world.held()) == (1, 0)


def test_charge_if_decides(acme: ApiConsumer, world: World) -> None:
    acme.get("/only-found/404")
    assert (world.used(), world.held()) == (0, 0)

    acme.get("/only-found/200")
    assert world.used() == 1


def test_a_meter_that_was_not_declared_is_a_mistake_of_the_view(acme: ApiConsumer, world: World) -> None:
    assert acme.get("/undeclared").status_code == 500

    assert (world.used(), world.held()) == (0, 0)


def test_an_async_view_is_metered(acme: ApiConsumer, world: World) -> None:
    assert acme.get("/async").text == "done"

    assert (world.used(), world.used("tokens"), world.held("tokens")) == (1, 4, 0)


def test_a_head_request_is_a_call_and_an_options_request_is_none(acme: ApiConsumer, world: World) -> None:
    assert acme.call("OPTIONS", "/call").status_code == 200
    assert world.used() == 0

    answer = acme.call("HEAD", "/call")

    assert (answer.status_code, answer.data, answer.headers["X-RateLimit-Remaining"]) == (200, b"", "999")
    assert world.used() == 1


def test_a_level_that_would_fall_below_zero_is_refused_and_given_back(acme: ApiConsumer, world: World) -> None:
    acme.post("/level?change=5")

    answer = acme.post("/level?change=-6")

    assert (answer.status_code, answer.json["type"]) == (400, "/problems/invalid-usage")
    assert (world.used("storage_bytes"), world.used(), world.held()) == (5, 1, 0)


# -- streams -----------------------------------------------------------------------------------------------------


def test_a_stream_settles_at_its_end(acme: ApiConsumer, world: World) -> None:
    assert acme.get("/stream?parts=5").text == "x" * 50

    assert (world.used("tokens"), world.held("tokens"), world.used()) == (5, 0, 1)


def test_a_stream_that_is_broken_off_settles_what_was_produced(acme: ApiConsumer, world: World) -> None:
    answer = acme.get("/stream?parts=50", buffered=False)
    parts = iter(answer.response)
    next(parts), next(parts)

    answer.close()

    assert (world.used("tokens"), world.held("tokens"), world.used()) == (2, 0, 1)


def test_a_stream_whose_settlement_is_refused_loses_nothing_that_can_be_counted(
    acme: ApiConsumer, host: Flask, world: World
) -> None:
    answer = acme.get("/stream?parts=5", buffered=False)
    world.record(world.event(meter="tokens", quantity=2**53 - 1))

    assert answer.text == "x" * 50
    answer.close()
    keep(host.extensions["metering"])

    assert (world.used(), world.held(), world.held("tokens"), world.total()) == (1, 0, 0, 1)
    (kept,) = world.session.scalars(select(SetAside)).all()
    assert (kept.reason, b'"tokens"' in kept.message) == ("invalid-usage", True)


def test_a_stream_that_breaks_settles_what_was_produced(acme: ApiConsumer, world: World) -> None:
    with pytest.raises(RuntimeError, match="the stream broke"):
        acme.get("/stream?parts=50&breaks=3")

    assert (world.used("tokens"), world.held("tokens"), world.used()) == (3, 0, 1)


def test_a_stream_with_a_server_error_is_given_back(acme: ApiConsumer, world: World) -> None:
    acme.get("/stream?status=500")

    assert (world.used("tokens"), world.held("tokens"), world.used()) == (0, 0, 0)


def test_a_file_that_the_server_sends_by_itself_settles_too(acme: ApiConsumer, world: World) -> None:
    """`send_file` hands its body to the server directly, past Flask's own closing of answers."""
    assert acme.get("/file").text == Path(add_views.__code__.co_filename).read_text()

    assert (world.used(), world.held()) == (1, 0)


def test_an_answer_that_the_server_never_took_is_given_back(acme: ApiConsumer, host: Flask, world: World) -> None:
    @host.after_request
    def replaces(_: Response) -> Response:
        return Response("another answer")

    assert acme.get("/stream").text == "another answer"

    assert (world.used(), world.held(), world.held("tokens")) == (0, 0, 0)


# -- who may call ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": "Bearer mk_zz_" + "x" * 43},
        {"Authorization": "Bearer mk_ff_" + "x" * 43},
        {"Authorization": "Bearer mk_00_" + "x" * 43},
        {"Authorization": "Basic bWs6bWs="},
        {"X-API-Key": "nonsense"},
    ],
)
@pytest.mark.parametrize("path", ["/call", "/units"])
def test_without_a_good_key_the_answer_is_401_whatever_else_is_wrong(
    host: Flask, world: World, header: dict[str, str], path: str
) -> None:
    world.customer()

    answer = host.test_client().post(path, headers=header)

    assert (answer.status_code, answer.content_type) == (401, "application/problem+json")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.json["type"] == "/problems/not-authenticated"
    assert (world.used(), world.held(), host.extensions["runs"]["count"]) == (0, 0, 0)


def test_a_key_may_come_in_a_header_of_its_own(acme: ApiConsumer, host: Flask, world: World) -> None:
    assert host.test_client().get("/call", headers={"X-API-Key": acme.secret}).status_code == 200
    assert world.used() == 1


def test_a_key_without_the_scope_is_told_so(host: Flask, world: World) -> None:
    reader = consumer(host, world, "acme", "free", "usage:read")

    answer = reader.get("/call")

    assert (answer.status_code, answer.json["type"]) == (403, "/problems/not-permitted")
    assert (answer.json["scope"], "'meter'" in answer.json["detail"]) == ("meter", True)
    assert reader.post("/units", data=b"no json").json["scope"] == "meter"
    assert (world.used(), world.held()) == (0, 0)


def test_an_operators_key_is_told_that_there_is_nobody_to_bill(host: Flask, world: World) -> None:
    _, made = create_key(world.session, None, name="services", scopes=SCOPES, now=world.now, by_operator=True)
    world.session.commit()
    world.send()
    operator = ApiConsumer(host, made.secret, "")

    for answer in (operator.get("/call"), operator.post("/units", data=b"no json")):
        assert (answer.status_code, answer.json["scope"]) == (403, "meter")
        assert "belongs to no customer" in answer.json["detail"]


def test_a_suspended_customer_is_not_served(acme: ApiConsumer, world: World) -> None:
    from metering.store.state import touch

    customer = world.session.scalars(select(Customer)).one()
    customer.status = "suspended"
    touch(world.session, [customer.id])
    world.session.commit()
    world.send()

    assert acme.get("/call").status_code == 403
    assert world.used() == 0


# -- bad requests ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("units", [-1, 1.5, "many", None, True, [], 2**53, "NaN", "1e400"])
def test_a_bad_quantity_is_refused_before_the_view(acme: ApiConsumer, host: Flask, world: World, units: object) -> None:
    answer = acme.post("/units", json={"units": units})

    assert (answer.status_code, answer.json["type"]) == (400, "/problems/bad-quantity")
    assert "api_call" in answer.json["detail"]
    assert (world.used(), world.held(), host.extensions["runs"]["count"]) == (0, 0, 0)


def test_a_request_that_does_not_say_how_much_is_refused(acme: ApiConsumer, world: World) -> None:
    assert acme.post("/units", json={}).status_code == 400
    assert acme.post("/units", data=b"{", content_type="application/json").status_code == 400
    assert acme.post("/units", data=b"units=5").status_code == 415
    assert acme.post("/tokens?most=x").status_code == 400
    assert acme.post("/tokens").status_code == 400

    assert (world.used(), world.held(), world.held("tokens")) == (0, 0, 0)


def test_a_body_that_is_too_large_is_refused_and_not_counted(acme: ApiConsumer, world: World) -> None:
    assert acme.post("/read", data=b"x" * 10_000).json == {"size": 10_000}
    assert world.used() == 1

    assert acme.post("/read", data=b"x" * 10_001).status_code == 413
    assert acme.post("/read", data=b"x" * 10_001, key="k").status_code == 413

    assert (world.used(), world.held()) == (1, 0)


def test_a_body_that_is_too_large_gets_a_problem_from_our_own_app(
    world: World, servers: Addresses, tmp_path: Path
) -> None:
    addresses = {"database_url": servers.database_url, "redis_url": servers.redis_url}
    with running_app(world, tmp_path, max_body_bytes=2048, **addresses) as app:
        answer = consumer(app, world).put("/api/v1/sample/files/large", b"x" * 2049)

    assert (answer.status_code, answer.content_type) == (413, "application/problem+json")
    assert "2048" in answer.json["detail"]
    assert (world.used(), world.held()) == (0, 0)


# -- limits ------------------------------------------------------------------------------------------------------


def test_a_refusal_is_a_problem_that_says_what_is_left_and_when_it_resets(
    acme: ApiConsumer, host: Flask, world: World
) -> None:
    world.record(world.event(quantity=998))

    answer = acme.post("/units", json={"units": 3})

    assert (answer.status_code, answer.content_type) == (429, "application/problem+json")
    body = answer.json
    assert {"type", "title", "status", "detail", "meter", "limit", "remaining", "resets_at"} <= set(body)
    assert (body["type"], body["status"], body["title"]) == ("/problems/limit-exceeded", 429, "Limit exceeded")
    assert (body["meter"], body["limit"], body["remaining"]) == ("api_call", 1000, 2)
    assert body["resets_at"] == "2026-12-01T00:00:00Z"
    assert b"standings" not in answer.data
    assert answer.headers["X-RateLimit-Remaining"] == "2"
    assert "Retry-After" not in answer.headers, "a client would hang for three weeks"
    assert (world.used(), world.held(), host.extensions["runs"]["count"]) == (998, 0, 0)


def test_retry_after_is_sent_when_the_wait_is_short(acme: ApiConsumer, world: World) -> None:
    world.advance(days=20, hours=11, minutes=59, seconds=30)
    world.record(world.event(quantity=1000))

    assert acme.get("/call").headers["Retry-After"] == "31"


def test_limits_stand_in_the_headers_of_every_answer(acme: ApiConsumer, world: World) -> None:
    length = 30 * 24 * 3600
    left = int((world.periods()[0].ends_at - world.now).total_seconds())

    answer = acme.post("/tokens?most=500&first=40")

    assert answer.headers["RateLimit-Policy"] == f'"api_call";q=1000;w={length}, "tokens";q=10000;w={length}'
    assert answer.headers["RateLimit"] == f'"api_call";r=999;t={left}, "tokens";r=9960;t={left}'
    assert answer.headers["X-RateLimit-Limit"] == "10000"
    assert answer.headers["X-RateLimit-Remaining"] == "9960"
    assert answer.headers["X-RateLimit-Reset"] == str(int((world.now + timedelta(seconds=left)).timestamp()))


def test_what_is_given_back_shows_in_the_headers(acme: ApiConsumer) -> None:
    assert acme.get("/status/500").headers["X-RateLimit-Remaining"] == "1000"
    assert acme.get("/only-found/404").headers["X-RateLimit-Remaining"] == "1000"


def test_a_level_never_resets(acme: ApiConsumer) -> None:
    answer = acme.post("/level?change=104857590")

    assert '"storage_bytes";q=104857600' in answer.headers["RateLimit-Policy"]
    assert '"storage_bytes";q=104857600;w' not in answer.headers["RateLimit-Policy"]
    assert '"storage_bytes";r=10' in answer.headers["RateLimit"]
    assert answer.headers["X-RateLimit-Limit"] == "104857600"
    assert "X-RateLimit-Reset" not in answer.headers


def test_without_limits_there_are_no_fields(host: Flask, world: World) -> None:
    answer = consumer(host, world, plan="enterprise").get("/call")

    assert answer.status_code == 200
    assert not [name for name, _ in answer.headers if "ratelimit" in name.lower()]


def test_sixty_four_threads_never_pass_a_limit(acme: ApiConsumer, world: World) -> None:
    world.record(world.event(quantity=900))

    def call(_: int) -> int:
        return acme.get("/call").status_code

    with ThreadPoolExecutor(64) as pool:
        statuses = list(pool.map(call, range(320)))

    assert (statuses.count(200), statuses.count(429)) == (100, 220)
    assert (world.used(), world.held()) == (1000, 0)


# -- in a host's app ---------------------------------------------------------------------------------------------


def test_the_host_names_the_customer(world: World, servers: Addresses, tmp_path: Path) -> None:
    world.customer()
    addresses = {"database_url": servers.database_url, "redis_url": servers.redis_url}
    with host_app(world, tmp_path, by_key=False, **addresses) as app:
        client = app.test_client()
        assert client.post("/units", json={"units": 2}, headers={"X-Customer": "acme"}).json == {"customer": "acme"}
        assert client.post("/units", json={"units": 2}).status_code == 401
        assert client.post("/units", data=b"no json").status_code == 401
        assert client.post("/units", json={"units": 2}, headers={"X-Customer": "nobody"}).status_code == 404

    assert world.used() == 2


def test_switched_off_it_is_a_pass_through(tmp_path: Path, world: World) -> None:
    with host_app(world, tmp_path, enabled=False, database_url="postgresql:///nowhere", redis_url="redis://x") as app:
        client = app.test_client()
        metering = app.extensions["metering"]

        assert client.get("/call").json == {"run": 1}
        assert client.post("/units", json={"units": -5}).json == {"customer": None}
        assert client.post("/tokens?most=5&first=3").status_code == 200
        assert client.get("/async").text == "done"
        assert client.get("/stream").text == "x" * 50
        assert client.get("/undeclared").text == "never"
        assert client.get("/abort/404").status_code == 404
        assert metering.record("acme", "api_call") is False
        assert "runtime" not in vars(metering), "nothing was connected"


def test_problems_are_json_to_the_last_digit(acme: ApiConsumer, world: World) -> None:
    world.record(world.event(meter="compute_seconds", quantity="59.999999"))

    answer = acme.post("/seconds")

    assert orjson.loads(answer.data)["remaining"] == 0.000001
    assert b'"remaining":0.000001' in answer.data


def test_a_revoked_key_is_refused_at_once(host: Flask, world: World) -> None:
    from metering.accounts.keys import keys_of, revoke_key

    customer = world.customer()
    made: NewKey = world.key(customer)
    acme = ApiConsumer(host, made.secret, "acme")
    assert acme.get("/call").status_code == 200

    revoke_key(world.session, customer, keys_of(world.session, customer)[0].id, now=world.now)
    world.session.commit()
    world.send()

    assert acme.get("/call").status_code == 401


def test_a_new_period_begins_without_any_job(acme: ApiConsumer, host: Flask, world: World) -> None:
    world.record(world.event(quantity=1000))
    assert acme.get("/call").status_code == 429

    world.advance(days=21)

    assert acme.get("/call").headers["X-RateLimit-Remaining"] == "999"
    world.advance(days=70)  # no period is known any more: it is made by the first call
    assert acme.get("/call").headers["X-RateLimit-Remaining"] == "999"
    keep(host.extensions["metering"])
    assert world.total() == 1002
