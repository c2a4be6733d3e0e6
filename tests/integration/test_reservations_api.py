"""Reservations over HTTP: held before the work, settled after it, free again when nobody comes back."""

import pytest
from flask import Flask

from metering.service import Metering
from tests.factories.callers import ApiConsumer, keep
from tests.factories.catalogs import with_rate
from tests.factories.world import World
from tests.integration.test_events_api import operator

PATH = "/api/v1/reservations"


@pytest.fixture
def service(app: Flask, world: World) -> ApiConsumer:
    world.customer("acme", "free")
    world.customer("globex", "free")
    return operator(app, world)


def hold(service: ApiConsumer, lease: int = 30, customer: str = "acme", **quantities: object) -> str:
    body = {"customer": customer, "quantities": quantities, "lease_seconds": lease}
    answer = service.post(PATH, json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json["id"])


def test_what_is_reserved_is_held_until_it_is_settled(service: ApiConsumer, world: World, metering: Metering) -> None:
    answer = service.post(PATH, json={"customer": "acme", "quantities": {"tokens": 500, "api_call": "1"}})

    assert answer.json["expires_at"] == "2026-11-10T12:00:30Z"
    assert answer.json["period"] == {"start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z"}
    tokens = next(one for one in answer.json["meters"] if one["meter"] == "tokens")
    assert tokens == {"meter": "tokens", "used": 0, "held": 500, "limit": 10_000, "remaining": 9_500}
    settled = service.post(
        f"{PATH}/{answer.json['id']}/settle",
        json={"quantities": {"tokens": 42, "api_call": 1}, "properties": {"model": "large"}},
    )
    keep(metering)

    assert settled.json["duplicate"] is False
    left = {one["meter"]: (one["used"], one["held"], one["remaining"]) for one in settled.json["meters"]}
    assert left == {"tokens": (42, 0, 9_958), "api_call": (1, 0, 999)}
    assert (world.total("tokens"), world.total("api_call"), world.held("tokens")) == (42, 1, 0)
    assert {one.grp for one in world.events() if one.units == 42} == {'{"model":"large"}'}


def test_settling_again_changes_nothing(service: ApiConsumer, world: World) -> None:
    held = hold(service, tokens=500)
    for quantity, status in ((42, 200), (42, 200), (99, 409)):
        answer = service.post(f"{PATH}/{held}/settle", json={"quantities": {"tokens": quantity}})
        assert answer.status_code == status

    assert world.used("tokens") == 42


def test_more_than_the_limit_is_held_by_nobody(service: ApiConsumer, world: World) -> None:
    hold(service, tokens=9_999)

    answer = service.post(PATH, json={"customer": "acme", "quantities": {"messages": 1, "tokens": 2}})

    assert (answer.status_code, answer.json["type"], answer.json["meter"]) == (
        429,
        "/problems/limit-exceeded",
        "tokens",
    )
    assert (world.held("tokens"), world.held("messages")) == (9_999, 0)


def test_a_reservation_counts_against_the_rate_of_its_customer(app: Flask, world: World) -> None:
    world.catalog = with_rate(world.catalog, "free", customer="1/minute")
    world.customer("acme", "free")
    service = operator(app, world)
    hold(service, tokens=1)

    answer = service.post(PATH, json={"customer": "acme", "quantities": {"tokens": 1}})

    assert (answer.status_code, answer.json["type"]) == (429, "/problems/rate-limited")
    assert (answer.headers["Retry-After"], world.held("tokens")) == ("60", 1)


def test_a_released_reservation_holds_nothing(service: ApiConsumer, world: World) -> None:
    held = hold(service, tokens=500)

    assert service.post(f"{PATH}/{held}/release").status_code == 204
    assert service.post(f"{PATH}/{held}/release").status_code == 204
    assert (world.used("tokens"), world.held("tokens")) == (0, 0)
    assert service.post(f"{PATH}/{held}/renew", json={}).status_code == 410


def test_a_lease_runs_out_unless_it_is_renewed(service: ApiConsumer, world: World) -> None:
    kept, lost = hold(service, 10, tokens=5_000), hold(service, 10, tokens=5_000)
    world.advance(seconds=9)
    answer = service.post(f"{PATH}/{kept}/renew", json={"lease_seconds": 60})
    world.advance(seconds=2)

    assert answer.json == {"expires_at": "2026-11-10T12:01:09Z"}
    assert service.post(f"{PATH}/{lost}/renew", json={}).status_code == 410
    assert world.held("tokens") == 5_000
    hold(service, tokens=5_000)
    late = service.post(f"{PATH}/{lost}/settle", json={"quantities": {"tokens": 5_000}})
    assert late.json["meters"][0]["overshoot"] is True
    assert world.used("tokens") == 5_000


def test_only_what_was_reserved_can_be_settled(service: ApiConsumer, world: World) -> None:
    held = hold(service, tokens=5)

    for quantities in ({"messages": 1}, {"tokens": -1}, {"tokens": "x"}, {"tokens": 0.5}):
        answer = service.post(f"{PATH}/{held}/settle", json={"quantities": quantities})
        assert answer.status_code == 400, answer.text
    assert (world.used("tokens"), world.held("tokens")) == (0, 5)


def test_a_settlement_that_cannot_be_counted_records_nothing_and_may_be_put_right(
    service: ApiConsumer, world: World
) -> None:
    held = hold(service, tokens=5, api_call=1)
    world.record(world.event(meter="tokens", quantity=2**53 - 1))

    refused = service.post(f"{PATH}/{held}/settle", json={"quantities": {"api_call": 1, "tokens": 5}})
    assert (refused.status_code, refused.json["type"]) == (400, "/problems/invalid-usage")
    assert refused.json["meter"] == "tokens"
    assert "2^53" in refused.json["detail"]
    assert (world.used(), world.held(), world.held("tokens")) == (0, 1, 5)

    assert service.post(f"{PATH}/{held}/settle", json={"quantities": {"api_call": 1}}).status_code == 200
    assert (world.used(), world.held(), world.held("tokens")) == (1, 0, 0)


def test_a_token_is_no_ones_to_make(service: ApiConsumer) -> None:
    held = hold(service, tokens=5)

    for forged in (held[:-2], held.swapcase(), "nonsense", "W10.x"):
        for step in ("settle", "renew", "release"):
            assert service.post(f"{PATH}/{forged}/{step}", json={"quantities": {}}).status_code in (400, 404)
            assert service.post(f"{PATH}/{forged}/release").status_code == 404


def test_a_customers_key_reaches_its_own_reservations_alone(app: Flask, service: ApiConsumer, world: World) -> None:
    acme = ApiConsumer(app, world.key(world.find("acme"), "events:write").secret, "acme")
    foreign = hold(service, customer="globex", tokens=5)

    assert acme.post(PATH, json={"quantities": {"tokens": 1}}).json["customer"] == "acme"
    assert acme.post(PATH, json={"customer": "globex", "quantities": {"tokens": 1}}).status_code == 404
    assert acme.post(f"{PATH}/{foreign}/settle", json={"quantities": {}}).status_code == 404
    assert acme.post(f"{PATH}/{foreign}/release").status_code == 404
    assert world.held("tokens", "globex") == 5


@pytest.mark.parametrize(
    "body",
    [
        {"customer": "acme"},
        {"customer": "acme", "quantities": {}},
        {"customer": "acme", "quantities": {"tokens": None}},
        {"customer": "acme", "quantities": {"tokens": 1}, "lease_seconds": 0},
        {"customer": "acme", "quantities": {"tokens": 1}, "lease_seconds": 3601},
        {"customer": "acme", "quantities": {"tokens": 1}, "more": 1},
        {"quantities": {"tokens": True}, "customer": "acme"},
    ],
)
def test_a_body_that_is_none_is_refused_by_field(service: ApiConsumer, body: dict[str, object]) -> None:
    answer = service.post(PATH, json=body)

    assert (answer.status_code, answer.json["type"]) == (400, "/problems/invalid-request")


def test_a_check_holds_nothing(app: Flask, world: World) -> None:
    acme = ApiConsumer(app, world.key(world.customer("acme"), "usage:read").secret, "acme")

    answer = acme.post("/api/v1/check", json={"quantities": {"tokens": 10_000, "messages": 101}})

    assert answer.json["allowed"] is False
    assert {one["meter"]: one["allowed"] for one in answer.json["checks"]} == {"tokens": True, "messages": False}
    assert world.held("tokens") == 0
    assert acme.get("/api/v1/limits").json["limits"][0]["mode"] == "hard"
