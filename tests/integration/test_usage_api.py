"""What API consumers ask about themselves."""

from decimal import Decimal

import pytest
from flask import Flask

from metering import exact_json
from metering.service import Metering
from tests.factories.callers import ApiConsumer, consumer, keep
from tests.factories.world import World


@pytest.fixture
def acme(app: Flask, world: World) -> ApiConsumer:
    return consumer(app, world, "acme", "free", "meter", "usage:read")


def test_usage_is_one_line_a_meter(acme: ApiConsumer, world: World) -> None:
    for _ in range(3):
        acme.get("/api/v1/sample/ping")
    world.record(world.event(meter="compute_seconds", quantity="1.25"))

    body = acme.get("/api/v1/usage").json

    assert (body["customer"], body["plan"]) == ("acme", "free")
    assert body["period"] == {"start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z"}
    meters = {one["meter"]: one for one in body["meters"]}
    assert meters["api_call"] == {
        "meter": "api_call",
        "unit": world.catalog.meters["api_call"].unit,
        "used": 3,
        "limit": 1000,
        "remaining": 997,
        "included": 10_000,
        "included_unit": "API call",
        "percent": 0.3,
        "resets_at": "2026-12-01T00:00:00Z",
    }
    assert meters["compute_seconds"]["used"] == 1.25
    assert meters["storage_bytes"]["resets_at"] is None


def test_asking_costs_nothing(acme: ApiConsumer, world: World) -> None:
    acme.get("/api/v1/usage")
    acme.get("/api/v1/limits/api_call")
    acme.get("/api/v1/estimate")

    assert world.used() == 0


def test_a_limit_can_be_asked_about(acme: ApiConsumer, world: World) -> None:
    world.record(world.event(quantity=998))

    answer = acme.get("/api/v1/limits/api_call?quantity=2").json
    assert (answer["allowed"], answer["used"], answer["remaining"]) == (True, 998, 2)
    assert acme.get("/api/v1/limits/api_call?quantity=3").json["allowed"] is False
    assert acme.get("/api/v1/limits/compute_seconds?quantity=0.5").json["allowed"] is True


@pytest.mark.parametrize("quantity", ["-1", "NaN", "Infinity", "x", "0.5", "", "9007199254740992", "1e500", "9" * 5000])
def test_a_bad_quantity_is_refused(acme: ApiConsumer, quantity: str) -> None:
    answer = acme.get("/api/v1/limits/api_call", query_string={"quantity": quantity})

    assert (answer.status_code, answer.json["type"]) == (400, "/problems/bad-quantity")


def test_an_unknown_meter_is_not_found(acme: ApiConsumer) -> None:
    answer = acme.get("/api/v1/limits/nonsense")

    assert (answer.status_code, answer.json["type"], answer.json["meter"]) == (
        404,
        "/problems/unknown-meter",
        "nonsense",
    )


def test_the_estimate_is_exact_and_names_its_lines(app: Flask, world: World, metering: Metering) -> None:
    acme = consumer(app, world, "acme", "pro", "usage:read")
    world.record(world.event(quantity=12_340))
    keep(metering)

    body = acme.get("/api/v1/estimate").json

    lines = {line["meter"]: line for line in body["lines"]}
    assert lines["api_call"]["amount"] == "2.34"
    assert (lines["api_call"]["quantity"], lines["api_call"]["included"]) == (12_340, 10_000)
    assert lines[None]["amount"] == "49.00"
    assert (body["currency"], body["period"]["end"]) == ("USD", "2026-12-01T00:00:00Z")


def test_an_estimate_shows_no_endless_quotients(app: Flask, world: World, metering: Metering) -> None:
    acme = consumer(app, world, "acme", "pro", "usage:read")
    world.record(world.event(meter="storage_bytes", quantity=7_000_000_007))
    keep(metering)
    world.advance(hours=7)

    lines = {line["meter"]: line for line in exact_json.parse(acme.get("/api/v1/estimate").text)["lines"]}

    assert lines["storage_bytes"]["quantity"] == round(Decimal(7_000_000_007) / 2**30 * 7 / 730, 9)


@pytest.mark.parametrize("path", ["usage", "limits/api_call", "estimate"])
def test_only_a_key_that_may_read_gets_an_answer(app: Flask, world: World, path: str) -> None:
    caller = consumer(app, world, "acme", "free", "meter")
    operator = ApiConsumer(app, operator_key(world), "")

    assert app.test_client().get(f"/api/v1/{path}").status_code == 401
    assert caller.get(f"/api/v1/{path}").status_code == 403
    assert operator.get(f"/api/v1/{path}").status_code == 403


def test_a_customer_sees_its_own_usage_only(acme: ApiConsumer, app: Flask, world: World) -> None:
    stranger = consumer(app, world, "stranger", "free", "meter", "usage:read")
    acme.get("/api/v1/sample/ping")

    body = stranger.get("/api/v1/usage").json

    assert body["customer"] == "stranger"
    assert [one["used"] for one in body["meters"]] == [0] * len(body["meters"])


def operator_key(world: World) -> str:
    from metering.accounts.keys import create_key

    _, made = create_key(
        world.session, None, name="operators", scopes=["events:write"], now=world.now, by_operator=True
    )
    world.session.commit()
    world.send()
    return made.secret
