"""Alert thresholds of a customer and its alerts, by the HTTP API."""

import threading

import pytest
from flask import Flask
from sqlalchemy import func, select

from metering.models import Alert, AuditEntry
from metering.service import Metering
from tests.factories.callers import ApiConsumer, keep
from tests.factories.managers import admin, operator
from tests.factories.people import Visitor, make_user
from tests.factories.world import World

THRESHOLDS = "/api/v1/customers/acme/alert-thresholds"
ALERTS = "/api/v1/customers/acme/alerts"


@pytest.fixture
def acme(app: Flask, world: World) -> ApiConsumer:
    return admin(app, world, world.customer("acme"))


def put(caller: ApiConsumer, percents: object, **headers: str) -> int:
    return caller.call("PUT", THRESHOLDS, json={"percents": percents}, headers=headers).status_code


def alerts(caller: ApiConsumer) -> list[tuple[str, int]]:
    return [(one["meter"], one["percent"]) for one in caller.get(ALERTS).json["items"]]


def test_thresholds_are_the_catalogs_until_a_customer_has_its_own(acme: ApiConsumer, world: World) -> None:
    assert acme.get(THRESHOLDS).json == {"percents": [80, 100], "inherited": True, "thresholds": []}

    assert acme.call("PUT", THRESHOLDS, json={"percents": [100, 50, 80, 50]}).json == {
        "percents": [50, 80, 100],
        "inherited": False,
        "thresholds": [],
    }
    assert acme.get(THRESHOLDS).json["percents"] == [50, 80, 100]
    assert put(acme, None) == 200
    assert acme.get(THRESHOLDS).json == {"percents": [80, 100], "inherited": True, "thresholds": []}
    assert world.session.scalar(select(func.count(AuditEntry.id))) == 2


@pytest.mark.parametrize("percents", [[0], [1001], [50.5], ["50"], [True], list(range(1, 12)), "50", 50])
def test_bad_thresholds_are_refused_and_named(acme: ApiConsumer, percents: object) -> None:
    answer = acme.call("PUT", THRESHOLDS, json={"percents": percents})

    assert (answer.status_code, answer.json["type"]) == (400, "/problems/invalid-request")
    assert answer.json["errors"][0]["field"].startswith("percents")
    assert acme.call("PUT", THRESHOLDS, json={}).status_code == 400
    assert acme.get(THRESHOLDS).json["inherited"] is True


def test_each_threshold_alerts_once_a_period(acme: ApiConsumer, metering: Metering, world: World, app: Flask) -> None:
    put(acme, [10, 50])
    other = admin(app, world, world.customer("other"))
    for customer in ("acme", "other"):
        for quantity in (90, 10, 395, 5, 400):  # of 1,000: 9, 10, 49.5, 50 and 90 %
            world.record(world.event(customer, quantity=quantity))
            keep(metering)

    assert alerts(acme) == [("api_call", 50), ("api_call", 10)]
    assert [one["percent"] for one in other.get("/api/v1/customers/other/alerts").json["items"]] == [80]
    newest = acme.get(ALERTS).json["items"][0]
    assert (newest["used"], newest["limit"]) == (500, 1000)
    assert newest["crossed_at"] == "2026-11-10T12:00:00Z"

    world.now = world.periods()[0].ends_at
    world.record(world.event(quantity=100))
    keep(metering)
    assert alerts(acme) == [("api_call", 10)]  # of the period that runs
    assert world.session.scalar(select(func.count(Alert.id)).where(Alert.value == 10)) == 2


def test_new_thresholds_hold_from_then_on(acme: ApiConsumer, metering: Metering, world: World) -> None:
    world.record(world.event(quantity=850))
    keep(metering)
    assert alerts(acme) == [("api_call", 80)]

    put(acme, [20, 90])
    keep(metering)
    assert alerts(acme) == [("api_call", 80)]
    world.record(world.event(quantity=1))
    keep(metering)
    assert alerts(acme) == [("api_call", 20), ("api_call", 80)]
    put(acme, [])
    world.record(world.event(quantity=149))
    keep(metering)
    assert alerts(acme) == [("api_call", 20), ("api_call", 80)]


def test_alerts_are_listed_in_pages_and_in_the_meters_unit(acme: ApiConsumer, metering: Metering, world: World) -> None:
    put(acme, [10, 20, 30, 40, 50])
    world.record(world.event(meter="compute_seconds", quantity="30.5"))
    keep(metering)

    first = acme.get(ALERTS, query_string={"limit": 3}).json
    second = acme.get(ALERTS, query_string={"limit": 3, "cursor": first["next_cursor"]}).json

    assert [one["percent"] for one in [*first["items"], *second["items"]]] == [50, 40, 30, 20, 10]
    assert (first["items"][0]["used"], first["items"][0]["limit"]) == (30.5, 60)
    assert second["next_cursor"] is None


def test_a_stranger_finds_nothing_and_operators_all(acme: ApiConsumer, app: Flask, world: World) -> None:
    stranger, ops = admin(app, world, world.customer("stranger")), operator(app, world)
    reader = admin(app, world, world.find("acme"), "usage:read")

    assert [stranger.get(path).status_code for path in (THRESHOLDS, ALERTS)] == [404, 404]
    assert put(stranger, [1]) == 404
    assert [ops.get(path).status_code for path in (THRESHOLDS, ALERTS)] == [200, 200]
    assert [reader.get(path).status_code for path in (THRESHOLDS, ALERTS)] == [403, 200]
    assert put(reader, [1]) == 403
    assert put(ops, [70]) == 200
    assert acme.get(THRESHOLDS).json["percents"] == [70]


def test_of_many_writers_who_saw_the_same_one_wins(acme: ApiConsumer) -> None:
    seen = acme.get(THRESHOLDS).headers["ETag"]
    barrier, statuses = threading.Barrier(5), []

    def write(percent: int) -> None:
        barrier.wait()
        statuses.append(put(acme, [percent], **{"If-Match": seen}))

    threads = [threading.Thread(target=write, args=(percent,)) for percent in range(1, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(statuses) == [200] + [412] * 4


def test_the_pages_go_by_the_customers_thresholds(acme: ApiConsumer, app: Flask, world: World) -> None:
    make_user(world, "ada@acme.example", world.find("acme"))
    visitor = Visitor.of(app)
    visitor.log_in("ada@acme.example")
    world.record(world.event(quantity=300))
    assert "30% of the limit used" not in visitor.open("/c/acme/").text

    put(acme, [30])

    assert "30% of the limit used" in visitor.open("/c/acme/").text
