"""Events over HTTP: every form a CloudEvent comes in, all or nothing, each event once."""

import gzip
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select, text

from metering.accounts.keys import create_key
from metering.catalog import Catalog
from metering.embedded import Addresses
from metering.intake.admission import MAX_EVENTS_PER_SCRIPT
from metering.models import Event, HeldEvent, SetAside
from metering.service import Metering
from metering.store.verify import verify
from tests.conftest import running_app
from tests.factories.callers import ApiConsumer, keep
from tests.factories.catalogs import with_rate
from tests.factories.world import World

PATH = "/api/v1/events"
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"


def operator(app: Flask, world: World, *scopes: str) -> ApiConsumer:
    _, made = create_key(
        world.session, None, name="services", scopes=scopes or ["events:write"], now=world.now, by_operator=True
    )
    world.session.commit()
    world.send()
    return ApiConsumer(app, made.secret, "")


@pytest.fixture
def sender(app: Flask, world: World) -> ApiConsumer:
    world.customer("acme", "enterprise")
    world.customer("globex", "enterprise")
    world.customer("initech", "free")
    return operator(app, world)


def event(id: str = "e1", **more: Any) -> dict[str, Any]:
    standard = {"specversion": "1.0", "id": id, "source": "test", "type": "messages", "subject": "acme"}
    return {**standard, "data": {"value": 3}, **more}


def send(sender: ApiConsumer, body: Any, media_type: str = BATCH, path: str = PATH, **headers: str) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return sender.post(path, data=raw, content_type=media_type, headers=headers)


def places(answer: Any) -> list[tuple[int, str]]:
    """Which events a problem names, and where in them."""
    return [(fault["index"], fault["pointer"]) for fault in answer.json["errors"]]


# -- forms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        (STRUCTURED, event()),
        (f"{STRUCTURED}; charset=UTF-8", event()),
        (BATCH, [event()]),
        ("application/json", event()),
        ("application/json; charset=utf-8", [event()]),
        ("application/json", {**event(), "specversion": None} | {"specversion": "1.0"}),
    ],
)
def test_every_form_is_taken(sender: ApiConsumer, world: World, media_type: str, body: Any) -> None:
    answer = send(sender, body, media_type)

    assert (answer.status_code, answer.data, answer.headers.get("Content-Type")) == (204, b"", None)
    assert world.used("messages") == 3


def test_binary_mode_has_its_attributes_in_headers(sender: ApiConsumer, world: World) -> None:
    attributes = {"ce-specversion": "1.0", "ce-id": "bin%20ary", "ce-source": "/mailer", "ce-type": "messages"}
    headers = {**attributes, "ce-subject": "acme", "ce-time": "2026-11-10T11:59:59.123456Z"}

    answer = sender.post(PATH, data=b'{"value": 7}', content_type="application/json", headers=headers)
    world.drain()

    assert answer.status_code == 204
    (stored,) = world.events()
    assert (stored.event_id, stored.source, stored.units) == ("bin ary", "/mailer", 7)
    assert stored.time.isoformat() == "2026-11-10T11:59:59.123456+00:00"


def test_data_may_be_base64(sender: ApiConsumer, world: World) -> None:
    body = event(data_base64="eyJ2YWx1ZSI6IDV9")
    del body["data"]

    assert send(sender, body, STRUCTURED).status_code == 204
    assert world.used("messages") == 5


@pytest.mark.parametrize(
    ("media_type", "body", "status"),
    [
        ("text/plain", b"{}", 415),
        ("application/json; charset=latin-1", b"{}", 415),
        (STRUCTURED, b"{", 400),
        (STRUCTURED, b"", 400),
        (STRUCTURED, b'{"id": NaN}', 400),
        (STRUCTURED, b"\xff\xfe", 400),
        (STRUCTURED, b"[" * 100_000, 400),
        (STRUCTURED, [event()], 400),
        (BATCH, event(), 400),
        (BATCH, b"3", 400),
    ],
)
def test_what_is_no_event_is_refused(
    sender: ApiConsumer, world: World, media_type: str, body: Any, status: int
) -> None:
    answer = send(sender, body, media_type)

    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    assert world.used("messages") == 0


def test_an_empty_batch_is_a_batch(sender: ApiConsumer) -> None:
    assert send(sender, []).status_code == 204


# -- size --------------------------------------------------------------------------------------------------------


def test_gzip_is_unpacked(sender: ApiConsumer, world: World) -> None:
    raw = json.dumps([event("a")]).encode()
    packed = gzip.compress(raw[:10]) + gzip.compress(raw[10:])  # a file of two members

    answer = sender.post(PATH, data=packed, content_type=BATCH, headers={"Content-Encoding": "gzip"})

    assert answer.status_code == 204
    assert world.used("messages") == 3


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("gzip", gzip.compress(b" " * 11_000_000), 413),
        ("gzip", gzip.compress(json.dumps([event()]).encode())[:-6], 400),
        ("gzip", b"no gzip at all", 400),
        ("br", b"x", 415),
    ],
)
def test_a_packed_body_cannot_do_harm(sender: ApiConsumer, encoding: str, body: bytes, status: int) -> None:
    answer = sender.post(PATH, data=body, content_type=BATCH, headers={"Content-Encoding": encoding})

    assert answer.status_code == status


def test_too_many_or_too_large_is_413(sender: ApiConsumer, world: World) -> None:
    assert send(sender, [event(str(n)) for n in range(10_001)]).status_code == 413
    assert send(sender, b"[" + b" " * 10_485_760 + b"]").status_code == 413
    assert world.used("messages") == 0


# -- each event once ---------------------------------------------------------------------------------------------


def test_the_same_event_again_changes_nothing(sender: ApiConsumer, world: World) -> None:
    for _ in range(3):
        assert send(sender, [event("a"), event("b")]).status_code == 204

    assert world.used("messages") == 6
    assert world.drain().stored.fresh == 2


def test_another_payload_under_the_same_identity_is_named_and_nothing_is_recorded(
    sender: ApiConsumer, world: World
) -> None:
    send(sender, [event("a")])

    answer = send(sender, [event("new"), event("a", data={"value": 4})])

    assert (answer.status_code, answer.json["type"], places(answer)) == (409, "/problems/usage-conflict", [(1, "/id")])
    assert world.used("messages") == 3


def test_what_redis_forgot_is_set_aside_where_operators_see_it(sender: ApiConsumer, world: World) -> None:
    send(sender, [event("a")])
    world.drain()
    for name in world.redis.scan_iter("*:d:*"):
        world.redis.delete(name)

    assert send(sender, [event("a", data={"value": 5})]).status_code == 204
    world.drain()

    assert world.session.scalars(select(SetAside.reason)).all() == ["conflict"]
    assert (world.used("messages"), world.total("messages")) == (3, 3)


def test_numbers_keep_every_digit_and_times_their_microseconds(sender: ApiConsumer, world: World) -> None:
    body = (
        b'{"specversion":"1.0","id":"x","source":"s","type":"compute_seconds","subject":"acme",'
        b'"time":"2026-11-10T13:00:00.000001+02:00","data":{"value":1234567.654321,'
        b'"large":123456789012345678901234567890,"fine":0.1234567890123456789}}'
    )

    assert send(sender, body, STRUCTURED).status_code == 204
    world.drain()

    row = world.session.execute(text("SELECT units, time, properties::text AS kept FROM events")).one()
    assert row.units == 1_234_567_654_321
    assert row.time.microsecond == 1
    assert "123456789012345678901234567890" in row.kept
    assert "0.1234567890123456789" in row.kept


def test_events_of_many_customers_are_recorded_in_one_request(sender: ApiConsumer, world: World) -> None:
    body = [event(f"{n}", subject=("acme", "globex", "initech")[n % 3], data={"value": 1}) for n in range(90)]

    assert send(sender, body).status_code == 204
    assert [world.used("messages", name) for name in ("acme", "globex", "initech")] == [30, 30, 30]


def test_a_large_request_is_one_request(sender: ApiConsumer, world: World, metering: Metering) -> None:
    body = [event(str(n), data={"value": 1}) for n in range(2 * MAX_EVENTS_PER_SCRIPT + 1)]
    assert send(sender, body).status_code == 204
    assert send(sender, body).status_code == 204
    keep(metering)

    assert world.used("messages") == world.total("messages") == len(body)
    assert [one.name for one in verify(metering.runtime.engine, world.redis) if not one.holds] == []


# -- all or nothing ----------------------------------------------------------------------------------------------


def test_every_bad_event_is_named_with_place_pointer_and_reason(sender: ApiConsumer, world: World) -> None:
    body = [
        event("good"),
        event(""),
        event("b", subject=None),
        event("c", type="coffee"),
        event("d", subject="nobody"),
        event("e", time="yesterday"),
        event("f", data={"value": -1}),
        event("g", data={}),
        event("h", data={"value": "0.5"}),
        event("i", specversion="0.3"),
        event("j", data=[1]),
        event("k", Extension=1),
        event("l", time="2026-10-01T00:00:00Z"),
        event("m", time="2026-11-10T12:06:00Z"),
        "nonsense",
    ]

    answer = send(sender, body)

    assert (answer.status_code, answer.json["type"]) == (400, "/problems/invalid-events")
    named = {(fault["index"], fault["pointer"]): fault["reason"] for fault in answer.json["errors"]}
    assert named.keys() == {
        *(
            (1, "/id"),
            (2, "/subject"),
            (3, "/type"),
            (4, "/subject"),
            (5, "/time"),
            (6, "/data/value"),
            (7, "/data/value"),
        ),
        *((8, "/data/value"), (9, "/specversion"), (10, "/data"), (11, "/Extension"), (12, "/time"), (13, "/time")),
        (14, ""),
    }
    assert named[6, "/data/value"] == "is negative"
    assert named[7, "/data/value"] == "is missing"
    assert "34 days" in named[12, "/time"]
    assert "5 minutes" in named[13, "/time"]
    assert world.used("messages") == 0


def test_unknown_customers_are_all_named(sender: ApiConsumer, world: World) -> None:
    answer = send(sender, [event("a"), event("b", subject="nobody"), event("c", subject="none either")])

    assert places(answer) == [(1, "/subject"), (2, "/subject")]
    assert world.used("messages") == 0


def test_a_refusal_in_the_last_part_refuses_the_whole(sender: ApiConsumer, world: World) -> None:
    send(sender, [event("last", data={"value": 99})])
    body = [event(str(n), data={"value": 1}) for n in range(3 * MAX_EVENTS_PER_SCRIPT)] + [event("last")]

    answer = send(sender, body)

    assert (answer.status_code, places(answer)) == (409, [(3 * MAX_EVENTS_PER_SCRIPT, "/id")])
    assert world.used("messages") == 99


def test_two_events_of_one_request_cannot_share_an_identity(sender: ApiConsumer, world: World) -> None:
    filler = [event(str(n), data={"value": 1}) for n in range(MAX_EVENTS_PER_SCRIPT)]

    for body in ([event("a"), event("a", data={"value": 4})], [event("a"), *filler, event("a", data={"value": 4})]):
        assert send(sender, body).status_code == 409
    assert world.used("messages") == 0
    assert send(sender, [event("a"), *filler, event("a")]).status_code == 204
    assert world.used("messages") == 3 + len(filler)


def test_a_level_may_rise_in_one_part_and_fall_in_another(sender: ApiConsumer, world: World) -> None:
    def change(id: str, value: int, **more: Any) -> dict[str, Any]:
        return event(id, type="storage_bytes", data={"value": value, **more})

    rises = [change(f"r{n}", 10) for n in range(MAX_EVENTS_PER_SCRIPT)]
    fall = change("f", -10 * MAX_EVENTS_PER_SCRIPT + 1)

    assert send(sender, [*rises, fall]).status_code == 204
    assert world.used("storage_bytes") == 1
    assert send(sender, [change("s", 500, op="set")]).status_code == 204
    assert world.used("storage_bytes") == 500
    answer = send(sender, [change("t", -501)])
    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (400, "/data/value")
    assert send(sender, [change("u", 1, op="double")]).json["errors"][0]["pointer"] == "/data/op"
    assert world.used("storage_bytes") == 500


# -- time --------------------------------------------------------------------------------------------------------


def test_a_late_event_counts_in_its_own_hour_and_in_its_period_while_that_is_open(
    sender: ApiConsumer, world: World
) -> None:
    world.now = world.now.replace(day=30, hour=23)
    world.send()
    world.now += timedelta(hours=2)  # December; November is still open

    assert send(sender, [event("late", time="2026-11-20T10:30:00Z")]).status_code == 204
    world.drain()
    world.close_periods()
    assert send(sender, [event("later", time="2026-11-20T10:31:00Z")]).status_code == 204
    world.drain()

    first, second = world.session.scalars(select(Event).order_by(Event.time)).all()
    november, december = world.periods("acme")[:2]
    assert (first.period_id, first.late, second.period_id, second.late) == (november.id, False, december.id, True)
    hours = world.session.scalars(text("SELECT hour FROM rollups ORDER BY period_id")).all()
    assert [hour.isoformat() for hour in hours] == ["2026-11-20T10:00:00+00:00"] * 2


# -- who may -----------------------------------------------------------------------------------------------------


def test_only_a_key_with_the_scope_may_send(app: Flask, sender: ApiConsumer, world: World) -> None:
    reader = operator(app, world, "usage:read")

    assert app.test_client().post(PATH, json=[event()]).status_code == 401
    assert send(reader, [event()]).status_code == 403
    assert send(reader, b"{").status_code == 403
    assert world.used("messages") == 0


def test_a_customers_key_sends_for_its_customer_alone(app: Flask, sender: ApiConsumer, world: World) -> None:
    made = world.key(world.find("acme"), "events:write")
    acme = ApiConsumer(app, made.secret, "acme")

    assert send(acme, [event()]).status_code == 204
    answer = send(acme, [event("x", subject="globex")])

    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (400, "/subject")
    assert world.used("messages", "globex") == 0


# -- enforce -----------------------------------------------------------------------------------------------------


def test_enforce_refuses_all_or_none(sender: ApiConsumer, world: World) -> None:
    path = f"{PATH}?enforce=true"
    body = [event(str(value), subject="initech", data={"value": value}) for value in (60, 41)]
    answer = send(sender, body, path=path)

    assert (answer.status_code, answer.json["type"]) == (429, "/problems/limit-exceeded")
    assert (answer.json["meter"], answer.json["limit"], places(answer)) == ("messages", 100, [(1, "/data/value")])
    assert world.used("messages", "initech") == 0
    assert send(sender, [event("a", subject="initech", data={"value": 100})], path=path).status_code == 204
    assert send(sender, [event("a", subject="initech", data={"value": 100})], path=path).status_code == 204
    assert world.used("messages", "initech") == 100


def test_enforce_holds_over_several_parts(sender: ApiConsumer, world: World) -> None:
    path = f"{PATH}?enforce=true"
    calls = [event(str(n), subject="initech", type="api_call", data={"value": 1}) for n in range(1001)]

    answer = send(sender, calls, path=path)
    assert (answer.status_code, places(answer)) == (429, [(1000, "/data/value")])
    assert world.used("api_call", "initech") == 0

    assert send(sender, calls[:1000], path=path).status_code == 204
    assert send(sender, calls[:1000], path=path).status_code == 204
    assert (world.used("api_call", "initech"), world.held("api_call", "initech")) == (1000, 0)


def test_a_large_request_is_no_call_that_a_rate_holds_back(app: Flask, world: World) -> None:
    world.catalog = with_rate(world.catalog, "free", customer="1/hour")
    world.customer("initech", "free")
    sender = operator(app, world)
    path = f"{PATH}?enforce=true"
    calls = [event(str(n), subject="initech", type="api_call", data={"value": 1}) for n in range(1000)]

    for start in (0, 499):
        assert send(sender, calls[start : start + 501], path=path).status_code == 204

    assert (world.used("api_call", "initech"), world.held("api_call", "initech")) == (1000, 0)


def test_enforce_is_of_one_customer(sender: ApiConsumer, world: World) -> None:
    answer = send(sender, [event("a"), event("b", subject="globex")], path=f"{PATH}?enforce=true")

    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (400, "/subject")


def test_without_enforce_what_passes_a_limit_is_recorded_and_flagged(sender: ApiConsumer, world: World) -> None:
    assert send(sender, [event("a", subject="initech", data={"value": 101})]).status_code == 204
    world.drain()

    assert [one.overshoot for one in world.events()] == [True]


# -- several meters ----------------------------------------------------------------------------------------------


def test_an_event_that_several_meters_count_counts_once_on_each(
    world: World, servers: Addresses, tmp_path: Path, catalog: Catalog
) -> None:
    source = tmp_path / "catalog.toml"
    default = (Path(__file__).resolve().parents[2] / "metering/catalog/default.toml").read_text()
    source.write_text(
        default + '\n[meters.mails]\nname = "Mails"\nunit = "mail"\naggregation = "count"\nevent_type = "messages"\n'
    )
    from metering.catalog import load_catalog

    world.catalog = load_catalog(source)
    world.initialise()
    world.customer("acme", "enterprise")
    urls = {"database_url": servers.database_url, "redis_url": servers.redis_url, "catalog": source}
    with running_app(world, tmp_path, **urls) as app:
        sender = operator(app, world)
        for _ in range(2):
            assert send(sender, [event("a"), event("b")]).status_code == 204
        assert send(sender, [event("a", data={"value": 4})]).status_code == 409
        keep(app.extensions["metering"])

        assert (world.used("messages"), world.used("mails")) == (6, 2)
        assert (world.total("messages"), world.total("mails")) == (6, 2)
        engine = app.extensions["metering"].runtime.engine
        assert [one.name for one in verify(engine, world.redis) if not one.holds] == []


# -- holding -----------------------------------------------------------------------------------------------------


@pytest.fixture
def holding(world: World, servers: Addresses, tmp_path: Path) -> Iterator[Flask]:
    urls = {"database_url": servers.database_url, "redis_url": servers.redis_url}
    with running_app(world, tmp_path, unknown_subject="hold", **urls) as app:
        yield app


def test_events_of_a_customer_yet_to_be_made_are_held_and_counted_then(holding: Flask, world: World) -> None:
    metering = holding.extensions["metering"]
    sender = operator(holding, world)
    world.customer("globex", "free")
    body = [event("a"), event("b", subject="globex"), event("a")]

    assert send(sender, body).status_code == 204
    assert send(sender, body).status_code == 204
    assert send(sender, [event("a", data={"value": 8})]).status_code == 409
    assert world.used("messages", "globex") == 3
    received = world.now
    world.advance(hours=3)
    world.customer("acme", "enterprise")
    from metering.keeper import Keeper

    assert Keeper(metering.runtime).release_held() == 1
    keep(metering)

    assert world.used("messages") == world.total("messages") == 3
    assert [one.time for one in world.events() if one.customer_id == world.find("acme").id] == [received]
    assert world.session.scalars(select(HeldEvent)).all() == []
    assert send(sender, body).status_code == 204
    assert world.used("messages") == 3


def test_a_type_nobody_counts_is_held(holding: Flask, world: World) -> None:
    world.customer("acme", "enterprise")
    sender = operator(holding, world)

    assert send(sender, [event("a", type="coffee"), event("b")]).status_code == 204
    assert world.used("messages") == 3
    assert world.session.scalars(select(HeldEvent.type)).all() == ["coffee"]


def test_a_customers_key_holds_nothing(holding: Flask, world: World) -> None:
    acme = ApiConsumer(holding, world.key(world.customer("acme"), "events:write").secret, "acme")

    assert send(acme, [event("a", subject="somebody")]).status_code == 400
    assert send(acme, [event("a", type="coffee")]).status_code == 400
    assert world.session.scalars(select(HeldEvent)).all() == []
