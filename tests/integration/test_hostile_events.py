"""What may be sent to harm: answered at once and clearly; what is accepted can be stored, shown and taken back."""

import gzip
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask

from metering import exact_json
from metering.catalog import Catalog
from metering.errors import BadQuantity
from metering.service import Metering
from tests.factories.callers import ApiConsumer, keep
from tests.factories.world import World
from tests.integration.test_events_api import PATH, STRUCTURED, event, operator, send
from tests.integration.test_reservations_api import hold

ENFORCE = f"{PATH}?enforce=true"


@pytest.fixture
def services(app: Flask, world: World) -> ApiConsumer:
    world.customer("acme", "enterprise")
    world.customer("initech", "free")
    return operator(app, world, "events:write", "usage:read", "admin")


def raw(data: str) -> bytes:
    head = b'{"specversion":"1.0","id":"x","source":"s","type":"messages","subject":"acme","data":'
    return head + data.encode() + b"}"


@pytest.mark.parametrize("quantity", ["1e999999999", "-1e200000", "1e-999999999", "0.0e-99999999"])
def test_a_number_of_absurd_size_costs_nothing(catalog: Catalog, services: ApiConsumer, quantity: str) -> None:
    if Decimal(quantity):
        with pytest.raises(BadQuantity):
            catalog.meters["messages"].to_units(Decimal(quantity))
    body = b'{"quantities":{"messages":%s},"customer":"acme"}' % quantity.encode()

    for path in ("/api/v1/check", "/api/v1/reservations"):
        assert services.post(path, data=body, content_type="application/json").status_code == 400
    assert send(services, raw(f'{{"value": {quantity}}}'), STRUCTURED).status_code == 400


@pytest.mark.parametrize("value", ["1e5000", "1e-20000", "1e131072", "[" * 200 + "]" * 200, '"\\ud800"'])
def test_what_could_not_be_stored_or_shown_is_refused(services: ApiConsumer, world: World, value: str) -> None:
    assert send(services, raw(f'{{"value": 3, "x": {value}}}'), STRUCTURED).status_code == 400
    assert world.used("messages") == 0


def test_numbers_up_to_the_bound_come_out_again(services: ApiConsumer, metering: Metering, world: World) -> None:
    assert send(services, raw('{"value": 3, "x": 1e1000, "y": 1e-999}'), STRUCTURED).status_code == 204
    keep(metering)

    (one,) = exact_json.parse(services.get(PATH).data)
    assert one["event"]["data"]["x"] == 10**1000
    assert world.total("messages") == 3


def test_an_attribute_with_half_a_surrogate_is_named(services: ApiConsumer) -> None:
    body = b'{"specversion":"1.0","id":"x","source":"s","type":"messages","subject":"acme","\\ud800":1}'

    assert send(services, body, STRUCTURED).status_code == 400


def test_a_gzip_file_of_countless_members_is_refused(services: ApiConsumer) -> None:
    body = gzip.compress(b"") * 100_000
    answer = services.post(PATH, data=body, content_type=STRUCTURED, headers={"Content-Encoding": "gzip"})

    assert answer.status_code == 400


@pytest.mark.parametrize(
    "query", ["to=9999-12-31T23:59:59-23:59", "from=0001-01-01T00:00:00%2B23:59&to=9999-12-31T23:59:59-23:59"]
)
def test_a_range_beyond_our_time_is_refused(services: ApiConsumer, query: str) -> None:
    assert services.get(f"/api/v1/meters/messages/query?{query}").status_code == 400
    assert services.get(f"{PATH}?{query}").status_code == 400


def level(id: str, value: int, type: str = "storage_bytes", **more: Any) -> dict[str, Any]:
    subject = more.pop("subject", "acme")
    return event(id, type=type, subject=subject, data={"value": value, **more})


def test_a_set_counts_after_the_changes_before_it_in_the_same_request(services: ApiConsumer, world: World) -> None:
    seat = {"type": "seats", "subject": "initech"}
    assert send(services, [level("a", 1, op="set", **seat)], path=ENFORCE).status_code == 204
    body = [level("b", -1, **seat), level("c", 1, op="set", **seat), level("d", 1, **seat)]

    assert send(services, body, path=ENFORCE).status_code == 429
    world.drain()
    assert world.used("seats", "initech") == 1

    send(services, [level("e", 500)])
    assert send(services, [level("f", 100), level("g", 500, op="set"), level("h", -550)]).status_code == 400
    world.drain()
    assert world.used("storage_bytes") == 500


def test_settling_in_two_steps_counts_each_meter_once(services: ApiConsumer, world: World) -> None:
    held = hold(services, tokens=50, messages=1)
    path = f"/api/v1/reservations/{held}/settle"
    for quantities in ({"tokens": 42}, {"messages": 1, "tokens": 42}, {"tokens": 42, "messages": 1}):
        assert services.post(path, json={"quantities": quantities}).status_code == 200

    assert (world.used("tokens"), world.used("messages")) == (42, 1)
