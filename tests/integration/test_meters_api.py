"""Meters by the HTTP API, and meters made at run time: known to every process, counted end to end."""

import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import func, select, text

from metering import metered
from metering.catalog import Catalog, Meter
from metering.embedded import Addresses
from metering.errors import ConfigurationError, UnknownMeter
from metering.models import Accrual, AuditEntry, Event, MeterRow, Rollup
from metering.runtime import build_runtime
from metering.service import Metering
from metering.settings import load_settings
from metering.store.accruals import close_hours
from metering.store.meters import prepare
from metering.store.state import touch
from metering.store.verify import verify
from tests.conftest import running_app
from tests.factories.callers import ApiConsumer, keep
from tests.factories.hosts import host_app
from tests.factories.managers import admin, operator
from tests.factories.people import Visitor, make_user
from tests.factories.statements import counting
from tests.factories.world import PARTITIONS, World

METERS = "/api/v1/meters"
PIXELS = {"slug": "pixels", "aggregation": "SUM", "eventType": "image", "valueProperty": "$.pixels"}


@pytest.fixture
def ops(app: Flask, world: World) -> ApiConsumer:
    return operator(app, world, "admin", "usage:read", "events:write")


@pytest.fixture
def acme(app: Flask, world: World) -> ApiConsumer:
    return admin(app, world, world.customer("acme"))


@pytest.fixture
def other(world: World, servers: Addresses, tmp_path: Path) -> Iterator[Metering]:
    """Another process of the same product."""
    with running_app(world, tmp_path, database_url=servers.database_url, redis_url=servers.redis_url) as app:
        yield app.extensions["metering"]


def make(ops: ApiConsumer, **more: object) -> dict:
    made = ops.post(METERS, json=PIXELS | more)
    assert made.status_code == 201, made.text
    body: dict = made.json
    return body


# -- the resource ----------------------------------------------------------------------------------------------------


def test_meters_are_a_bare_array_in_openmeters_shape(acme: ApiConsumer) -> None:
    listed = acme.get(METERS).json

    assert [one["slug"] for one in listed] == sorted(one["slug"] for one in listed)
    tokens = next(one for one in listed if one["slug"] == "tokens")
    assert tokens["id"].isdigit()
    assert tokens["createdAt"].endswith("Z")
    fixed = {name: value for name, value in tokens.items() if name not in ("id", "createdAt", "updatedAt")}
    assert fixed == {
        "slug": "tokens",
        "name": "Tokens",
        "description": None,
        "aggregation": "SUM",
        "eventType": "tokens",
        "eventFrom": None,
        "valueProperty": "$.value",
        "groupBy": {"model": "$.model"},
        "unit": "token",
        "scale": 0,
        "kind": "usage",
        "billsAs": None,
        "display": "number",
        "origin": "catalog",
    }
    assert acme.get(f"{METERS}/tokens").json == tokens == acme.get(f"{METERS}/{tokens['id']}").json


@pytest.mark.parametrize("name", ["nonsense", "0", "9" * 30, "Tokens", "²"])
def test_an_unknown_meter_is_not_found(acme: ApiConsumer, name: str) -> None:
    answer = acme.get(f"{METERS}/{name}")

    assert (answer.status_code, answer.json["type"]) == (404, "/problems/unknown-meter")


def test_the_list_takes_openmeters_parameters(acme: ApiConsumer, ops: ApiConsumer) -> None:
    make(ops, slug="aaa", name="Zzz", aggregation="MAX")

    def slugs(**query: object) -> list[str]:
        return [one["slug"] for one in acme.get(METERS, query_string=query).json]

    everything = slugs()
    assert slugs(pageSize=3) + slugs(pageSize=3, page=2) + slugs(pageSize=3, page=3) == everything
    assert slugs(page=9) == []
    assert slugs(orderBy="key", order="DESC") == everything[::-1]
    assert slugs(orderBy="name")[-1] == "aaa"
    by_aggregation = slugs(orderBy="aggregation", includeDeleted="true")
    assert by_aggregation.index("aaa") == 2  # behind the two that take the latest value
    for wrong in ("page=0", "pageSize=1001", "order=up", "orderBy=colour", "colour=red"):
        answer = acme.get(f"{METERS}?{wrong}")
        assert (answer.status_code, answer.json["errors"][0]["field"]) == (400, wrong.split("=")[0])


def test_a_meter_is_made_with_what_openmeter_sends(ops: ApiConsumer, world: World) -> None:
    made = make(ops, name="Pixels", description="All of them", groupBy={"model": "$.model"}, unit="pixel", scale=2)

    assert (made["slug"], made["name"], made["description"]) == ("pixels", "Pixels", "All of them")
    assert (made["aggregation"], made["eventType"], made["valueProperty"]) == ("SUM", "image", "$.pixels")
    assert (made["groupBy"], made["unit"], made["scale"], made["origin"]) == ({"model": "$.model"}, "pixel", 2, "api")
    assert ops.get(f"{METERS}/pixels").json == made
    counted = ops.post(METERS, json={"slug": "renders", "aggregation": "COUNT", "eventType": "image"}).json
    assert (counted["name"], counted["valueProperty"]) == ("renders", None)
    (entry, *_) = world.session.scalars(select(AuditEntry).where(AuditEntry.action == "meter.create"))
    assert entry.detail["key"] == "pixels"


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"slug": "Pixels"}, "slug"),
        ({"slug": "1st"}, "slug"),
        ({"aggregation": "sum"}, "aggregation"),
        ({"aggregation": "MEDIAN"}, "aggregation"),
        ({"eventType": ""}, "eventType"),
        ({"valueProperty": "pixels"}, "valueProperty"),
        ({"groupBy": {"model": "model"}}, "groupBy.model"),
        ({"scale": 10}, "scale"),
        ({"description": "x" * 1001}, "description"),
        ({"kind": "level"}, "kind"),
        ({"kind": "level", "billsAs": "maximum"}, "kind"),
        ({"billsAs": "maximum"}, "kind"),
        ({"aggregation": "TIME_WEIGHTED"}, "kind"),
        ({"event_type": "image"}, "event_type"),
        ({"price": 1}, "price"),
    ],
)
def test_bad_input_is_refused_and_named(ops: ApiConsumer, wrong: dict, field: str) -> None:
    answer = ops.post(METERS, json=PIXELS | wrong)

    assert (answer.status_code, answer.json["type"]) == (400, "/problems/invalid-request")
    assert answer.json["errors"][0]["field"] == field


def test_a_slug_is_taken_once(ops: ApiConsumer) -> None:
    make(ops)

    assert ops.post(METERS, json=PIXELS).status_code == 409
    assert ops.post(METERS, json=PIXELS | {"slug": "tokens"}).status_code == 409


def test_of_many_who_make_the_same_meter_one_does(ops: ApiConsumer) -> None:
    barrier, statuses = threading.Barrier(6), []

    def post() -> None:
        barrier.wait()
        statuses.append(ops.post(METERS, json=PIXELS).status_code)

    threads = [threading.Thread(target=post) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(statuses) == [201] + [409] * 5


def test_only_operators_make_and_change_meters(acme: ApiConsumer, ops: ApiConsumer, app: Flask, world: World) -> None:
    make(ops)

    for method, path in (("POST", METERS), ("PUT", f"{METERS}/pixels"), ("PATCH", f"{METERS}/pixels")):
        for caller in (acme, operator(app, world, "usage:read")):
            answer = caller.call(method, path, json={"name": "x"})
            assert (answer.status_code, answer.json["type"]) == (403, "/problems/not-permitted")
    assert acme.get(f"{METERS}/pixels").json["name"] == "pixels"


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_what_people_read_of_a_meter_can_be_changed(ops: ApiConsumer, world: World, method: str) -> None:
    made = make(ops)
    world.advance(minutes=1)

    changed = ops.call(method, f"{METERS}/{made['id']}", json={"name": "Pixels", "unit": "px", "description": "d"})

    assert changed.status_code == 200
    assert changed.json == made | {
        "name": "Pixels",
        "unit": "px",
        "description": "d",
        "updatedAt": changed.json["updatedAt"],
    }
    assert changed.json["updatedAt"] > made["updatedAt"]
    for field in ("aggregation", "eventType", "valueProperty", "scale", "kind", "billsAs", "slug"):
        answer = ops.call(method, f"{METERS}/pixels", json={field: "x"})
        assert (answer.status_code, answer.json["errors"][0]["field"]) == (400, field)


def test_a_meter_of_the_file_is_changed_in_the_file(ops: ApiConsumer) -> None:
    answer = ops.call("PATCH", f"{METERS}/tokens", json={"name": "Other"})

    assert (answer.status_code, answer.json["type"]) == (409, "/problems/conflict")
    assert "catalog file" in answer.json["detail"]


def test_a_dimension_is_added_only_while_nothing_was_summed_without_it(
    ops: ApiConsumer, acme: ApiConsumer, metering: Metering
) -> None:
    made = make(ops, groupBy={"model": "$.model"})
    both = {"model": "$.model", "region": "$.region"}

    assert ops.call("PATCH", f"{METERS}/pixels", json={"groupBy": both}).json["groupBy"] == both
    for fewer in ({"region": "$.region"}, {"model": "$.other", "region": "$.region"}):
        assert ops.call("PATCH", f"{METERS}/pixels", json={"groupBy": fewer}).status_code == 409
    metering.record("acme", "pixels", 5, properties={"model": "m"})
    keep(metering)
    refused = ops.call("PATCH", f"{METERS}/pixels", json={"groupBy": both | {"size": "$.size"}})
    assert (refused.status_code, refused.json["field"]) == (409, "groupBy")
    assert ops.call("PATCH", f"{METERS}/pixels", json={"name": "Still", "groupBy": both}).status_code == 200
    assert made["groupBy"] == {"model": "$.model"}


# -- at run time -----------------------------------------------------------------------------------------------------


def test_a_meter_made_in_one_process_is_known_in_another_within_a_second_and_counted_end_to_end(
    ops: ApiConsumer, acme: ApiConsumer, other: Metering, world: World
) -> None:
    other.runtime.refresh_meters()
    make(ops, groupBy={"model": "$.model"}, scale=1)

    deadline = time.monotonic() + 1.5
    while True:  # a request to the other process, again and again
        other.runtime.refresh_meters()
        if "pixels" in other.catalog.meters:
            break
        assert time.monotonic() < deadline
        time.sleep(0.02)

    assert other.record("acme", "pixels", "2.5", id="a", properties={"model": "m"}) is True
    assert other.record("acme", "pixels", "2.5", id="a", properties={"model": "m"}) is False
    assert other.check_limit("acme", "pixels", 10**6).allowed
    keep(other)
    lines = {one["meter"]: one for one in acme.get("/api/v1/usage").json["meters"]}
    assert lines["pixels"] == {
        "meter": "pixels",
        "unit": "unit",
        "used": 2.5,
        "limit": None,
        "remaining": None,
        "included": None,
        "included_unit": None,
        "percent": None,
        "resets_at": "2026-12-01T00:00:00Z",
    }
    assert world.session.execute(select(Rollup.grp, Rollup.units)).all() == [('{"model":"m"}', Decimal(25))]
    assert "pixels" not in {line["meter"] for line in acme.get("/api/v1/estimate").json["lines"]}
    assert all(check.holds for check in verify(other.runtime.engine, other.runtime.redis))


def send(ops: ApiConsumer, id: str, data: dict[str, object], type: str = "messages", status: int = 204) -> dict:
    event = {"specversion": "1.0", "id": id, "source": "test", "type": type, "subject": "acme", "data": data}
    answer = ops.post("/api/v1/events", json=event)
    assert answer.status_code == status, answer.text
    return answer.json or {}


@pytest.mark.parametrize("aggregation", ["SUM", "UNIQUE_COUNT"])
def test_a_meter_passes_over_events_of_others_that_lack_its_value(
    ops: ApiConsumer, acme: ApiConsumer, metering: Metering, world: World, aggregation: str
) -> None:
    send(ops, "before", {"value": 3})
    make(ops, eventType="messages", aggregation=aggregation)

    send(ops, "before", {"value": 3})
    send(ops, "without", {"value": 3, "pixels": None})
    send(ops, "with", {"value": 3, "pixels": 5})
    for _ in range(2):
        send(ops, "with", {"value": 3, "pixels": 5})
    keep(metering)

    assert (world.total("messages"), len(world.events())) == (9, 4)
    missing = send(ops, "refused", {"pixels": 5}, status=400)["errors"]
    assert [one["pointer"] for one in missing] == ["/data/value"]
    unusable = send(ops, "refused", {"value": 3, "pixels": {}}, status=400)["errors"]
    assert [one["pointer"] for one in unusable] == ["/data/pixels"]
    assert all(check.holds for check in verify(metering.runtime.engine, metering.runtime.redis))


def test_an_event_that_all_meters_pass_over_is_refused_and_so_is_one_that_the_only_meter_of_its_type_cannot_count(
    ops: ApiConsumer, acme: ApiConsumer, metering: Metering, world: World
) -> None:
    make(ops)
    send(ops, "a", {"tiles": 2}, "image", status=400)

    make(ops, slug="tiles", valueProperty="$.tiles")
    send(ops, "a", {"tiles": 2}, "image")
    refused = send(ops, "b", {"frames": 1}, "image", status=400)["errors"]
    assert [(one["index"], one["pointer"], one["reason"]) for one in refused] == [
        (0, "/data/pixels", "is missing"),
        (0, "/data/tiles", "is missing"),
    ]
    keep(metering)
    world.catalog = metering.catalog
    assert (world.used("pixels"), world.used("tiles")) == (0, 2)


def test_an_identity_is_taken_whichever_meters_counted_its_event(
    ops: ApiConsumer, acme: ApiConsumer, metering: Metering, world: World
) -> None:
    make(ops)
    make(ops, slug="tiles", valueProperty="$.tiles")
    send(ops, "a", {"tiles": 2}, "image")
    send(ops, "b", {"tiles": 2, "pixels": 5}, "image")

    for id, data in (("a", {"pixels": 5}), ("a", {"tiles": 2, "pixels": 5}), ("b", {"tiles": 2}), ("b", {"pixels": 5})):
        send(ops, id, data, "image", status=409)
    send(ops, "a", {"tiles": 2}, "image")
    keep(metering)
    world.catalog = metering.catalog
    assert (world.used("pixels"), world.used("tiles")) == (5, 4)

    metering.void("acme", "a", source="test", reason="wrong")
    keep(metering)
    assert (world.used("pixels"), world.used("tiles")) == (5, 2)


def test_a_further_meter_of_a_type_comes_after_those_that_were_made_before(
    ops: ApiConsumer, acme: ApiConsumer, metering: Metering, world: World
) -> None:
    make(ops)
    send(ops, "a", {"pixels": 5}, "image")

    make(ops, slug="frames", aggregation="COUNT")

    send(ops, "a", {"pixels": 5}, "image")
    world.catalog = metering.catalog
    assert (world.used("pixels"), world.used("frames")) == (5, 1)


def test_a_meter_that_a_process_does_not_know_is_looked_for_once(
    ops: ApiConsumer, acme: ApiConsumer, other: Metering
) -> None:
    make(ops)

    assert other.record("acme", "pixels", 1)  # its first look at them
    with counting(other.runtime.engine) as count:
        assert other.record("acme", "pixels", 1)
        for _ in range(5):
            with pytest.raises(UnknownMeter):
                other.record("acme", "nonsense", 1)
    assert count[0] <= 1


def test_recording_needs_nothing_but_redis(other: Metering, acme: ApiConsumer) -> None:
    with counting(other.runtime.engine) as count:
        other.record("acme", "api_call", 1)
    assert count == [0]


def test_a_metered_endpoint_finds_a_meter_that_its_process_has_never_heard_of(
    ops: ApiConsumer, acme: ApiConsumer, metering: Metering, world: World, servers: Addresses, tmp_path: Path
) -> None:
    make(ops)
    touch(world.session, [world.find("acme").id])
    world.session.commit()
    keep(metering)
    with host_app(world, tmp_path, database_url=servers.database_url, redis_url=servers.redis_url) as host:
        host.add_url_rule("/render", view_func=metered("pixels", quantity=4)(lambda: "done"))
        service: Metering = host.extensions["metering"]

        assert ApiConsumer(host, acme.secret, "acme").get("/render").status_code == 200
        with counting(service.runtime.engine) as count:
            assert ApiConsumer(host, acme.secret, "acme").get("/render").status_code == 200
        assert count == [0]
    keep(metering)
    assert next(one for one in metering.summary("acme").meters if one.meter == "pixels").used == 8


def test_levels_can_be_made_too_and_accrue(ops: ApiConsumer, acme: ApiConsumer, other: Metering, world: World) -> None:
    level = {"slug": "disks", "aggregation": "LATEST", "eventType": "disk", "kind": "level", "billsAs": "maximum"}
    assert ops.post(METERS, json=level).json["billsAs"] == "maximum"
    other.record("acme", "disks", 3)
    other.record("acme", "disks", -1)
    keep(other)
    world.advance(hours=2)

    with other.runtime.transaction() as session:
        close_hours(session, other.catalog, now=world.now, settle_seconds=0)

    peaks = world.session.execute(select(Accrual.hour, Accrual.peak, Accrual.closing)).all()
    assert [(row.peak, row.closing) for row in peaks] == [(3, 2), (3, 2)]
    lines = {one["meter"]: one for one in acme.get("/api/v1/usage").json["meters"]}
    assert (lines["disks"]["used"], lines["disks"]["resets_at"]) == (2, None)


def test_counters_of_such_meters_outlive_redis(ops: ApiConsumer, acme: ApiConsumer, metering: Metering, world: World):
    make(ops)
    metering.record("acme", "pixels", 7)
    keep(metering)
    world.redis.flushdb()
    keep(metering)

    assert next(one for one in metering.summary("acme").meters if one.meter == "pixels").used == 7


def test_what_is_known_stays_while_postgresql_is_away(
    ops: ApiConsumer, acme: ApiConsumer, world: World, servers
) -> None:
    make(ops)
    settings = load_settings(
        env="development", partitions=PARTITIONS, database_url=servers.database_url, redis_url=servers.redis_url
    )
    runtime = build_runtime(settings, clock=lambda: world.now)
    runtime.refresh_meters()
    gone = build_runtime(settings.model_copy(update={"database_url": "postgresql+psycopg://127.0.0.1:1/none"}))

    runtime.live_catalog.refresh(gone.sessions, 0)

    assert "pixels" in runtime.catalog.meters
    assert runtime.intake.standing("acme", ["pixels"], now=world.now).meters[0].used == 0
    runtime.close()
    gone.close()


def file_with(catalog: Catalog, **fields: object) -> Catalog:
    meter = Meter.model_validate(
        {"key": "pixels", "name": "From the file", "unit": "px", "aggregation": "sum", "event_type": "image"} | fields
    )
    return catalog.model_construct(**{**dict(catalog), "meters": {**catalog.meters, "pixels": meter}})


def test_a_file_may_name_a_meter_that_was_made_at_run_time(
    ops: ApiConsumer, acme: ApiConsumer, metering: Metering, world: World, catalog: Catalog
) -> None:
    make(ops)
    metering.record("acme", "pixels", 7)
    keep(metering)

    prepare(world.session, file_with(catalog), PARTITIONS)
    world.session.commit()

    (row,) = world.session.scalars(select(MeterRow).where(MeterRow.key == "pixels"))
    assert row.definition["name"] == "From the file"
    assert world.session.scalar(select(func.count()).select_from(Event).where(Event.meter_id == row.id)) == 1
    # A process that still has the older file goes on to know it.
    metering.runtime.refresh_meters(max_age_seconds=0)
    assert metering.catalog.meters["pixels"].name == "From the file"


@pytest.mark.parametrize("fields", [{"scale": 2}, {"aggregation": "max"}])
def test_a_file_cannot_change_what_stored_numbers_mean(
    ops: ApiConsumer, world: World, catalog: Catalog, fields: dict
) -> None:
    make(ops)

    with pytest.raises(ConfigurationError, match=r"meters\.pixels"):
        prepare(world.session, file_with(catalog, **fields), PARTITIONS)


def test_a_meter_that_only_a_file_of_before_named_is_not_known(
    acme: ApiConsumer, world: World, catalog: Catalog, metering
):
    prepare(world.session, file_with(catalog), PARTITIONS)
    world.session.commit()
    metering.runtime.refresh_meters(max_age_seconds=0)

    assert "pixels" not in metering.catalog.meters
    assert acme.get(f"{METERS}/pixels").status_code == 404
    assert "pixels" not in [one["slug"] for one in acme.get(METERS).json]


def test_a_row_that_is_not_understood_takes_no_other_meter_away(
    ops: ApiConsumer, metering: Metering, world: World
) -> None:
    make(ops)
    make(ops, slug="newer")
    world.session.execute(
        text("""UPDATE meters SET definition = definition || '{"colour": "red"}' WHERE key = 'newer'""")
    )
    world.session.commit()
    metering.runtime.refresh_meters(max_age_seconds=0)

    assert "pixels" in metering.catalog.meters
    assert "newer" not in metering.catalog.meters


def test_such_meters_are_seen_on_the_pages_and_by_the_command(app: Flask, ops, acme, other, world: World) -> None:
    make(ops, name="Image pixels")
    other.record("acme", "pixels", 7)
    make_user(world, "ada@acme.example", world.find("acme"))
    visitor = Visitor.of(app)
    visitor.log_in("ada@acme.example")

    shown = app.test_cli_runner().invoke(args=["metering", "usage", "acme"])

    assert "Image pixels" in shown.output
    assert "Image pixels" in visitor.open("/c/acme/").text
