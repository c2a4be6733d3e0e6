"""Entitlements: what is left of each meter, now and as it was."""

from datetime import timedelta

import pytest
from flask import Flask

from metering.accounts.customers import set_status
from metering.service import Metering
from tests.factories.callers import ApiConsumer, consumer, keep
from tests.factories.world import World


@pytest.fixture
def acme(app: Flask, world: World) -> ApiConsumer:
    return consumer(app, world, "acme", "free", "usage:read")


def value(caller: ApiConsumer, feature: str, **query: str) -> dict[str, object]:
    answer = caller.get(f"/api/v1/customers/acme/entitlements/{feature}/value", query_string=query)
    assert answer.status_code == 200, answer.text
    body: dict[str, object] = answer.json
    return body


def test_what_is_held_is_not_left(acme: ApiConsumer, world: World) -> None:
    world.record(world.event(meter="messages", quantity=40))
    world.reserve({"messages": 60})

    assert value(acme, "messages") == {
        "hasAccess": False,
        "balance": 0,
        "usage": 40,
        "overage": 0,
        "totalAvailableGrantAmount": 100,
    }


def test_a_suspended_customer_has_no_access(acme: ApiConsumer, world: World) -> None:
    set_status(world.session, world.find("acme"), "suspended")
    world.session.commit()
    world.send()

    found = acme.get("/api/v1/customers/acme/access").json["entitlements"]

    assert {one["hasAccess"] for one in found.values()} == {False}


def test_a_meter_without_a_limit_has_no_balance(app: Flask, world: World) -> None:
    caller = consumer(app, world, "acme", "enterprise", "usage:read")

    assert value(caller, "tokens") == {
        "hasAccess": True,
        "balance": None,
        "usage": 0,
        "overage": 0,
        "totalAvailableGrantAmount": None,
    }


def test_an_earlier_moment_is_answered_from_what_is_stored(acme: ApiConsumer, world: World, metering: Metering) -> None:
    world.record(world.event(meter="messages", quantity=30), world.event(meter="storage_bytes", quantity=500))
    world.advance(minutes=30)
    between = (world.now - timedelta(minutes=1)).isoformat()
    world.record(world.event(meter="messages", quantity=90), world.event(meter="storage_bytes", quantity=-200))
    keep(metering)
    world.advance(minutes=1)

    then, now = value(acme, "messages", time=between), value(acme, "messages")
    assert (then["hasAccess"], then["usage"], then["balance"], then["overage"]) == (True, 30, 70, 0)
    assert (now["hasAccess"], now["usage"], now["balance"], now["overage"]) == (False, 120, 0, 20)
    assert value(acme, "storage_bytes", time=between)["usage"] == 500
    assert value(acme, "storage_bytes")["usage"] == 300
    first = world.periods()[0].starts_at
    assert value(acme, "messages", time=first.isoformat())["usage"] == 0


def test_a_moment_before_the_first_period_has_no_answer(acme: ApiConsumer) -> None:
    answer = acme.get("/api/v1/customers/acme/entitlements/tokens/value?time=2020-01-01T00:00:00Z")

    assert (answer.status_code, answer.json["type"]) == (400, "/problems/invalid-query")


def test_another_customers_entitlements_do_not_exist(app: Flask, acme: ApiConsumer, world: World) -> None:
    stranger = consumer(app, world, "globex", "free", "usage:read")

    for path in ("entitlements/tokens/value", "access", "entitlements/nonsense/value"):
        assert stranger.get(f"/api/v1/customers/acme/{path}").status_code == 404
    assert acme.get("/api/v1/customers/nobody/access").status_code == 404
