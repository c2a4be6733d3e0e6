"""OpenMeter's own Python SDK, unmodified, against the running server: every row of its contract, sync and async."""

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import openmeter.aio
import pytest
from corehttp.exceptions import ClientAuthenticationError, HttpResponseError, ResourceExistsError, ResourceNotFoundError
from flask import Flask
from openmeter.models import Event, MeterQueryRequest
from werkzeug.serving import make_server

from metering.accounts.keys import create_key
from metering.service import Metering
from tests.factories.callers import keep
from tests.factories.world import World

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)

# The SDK itself uses what newer libraries warn of.
pytestmark = pytest.mark.filterwarnings("default::DeprecationWarning")


@pytest.fixture
def endpoint(app: Flask) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def token(world: World) -> str:
    world.customer("acme", "free")
    world.customer("umlaut-co", "enterprise")
    _, made = create_key(
        world.session, None, name="sdk", scopes=["events:write", "usage:read"], now=world.now, by_operator=True
    )
    world.session.commit()
    world.send()
    return made.secret


@pytest.fixture
def client(endpoint: str, token: str) -> Iterator[openmeter.Client]:
    with openmeter.Client(endpoint=endpoint, token=token) as client:
        yield client


def event(id: str, value: int = 100, subject: str = "acme", model: str = "small", **more: Any) -> Event:
    data = {"value": value, "model": model}
    return Event(id=id, source="sdk", specversion="1.0", type="tokens", subject=subject, data=data, **more)


# -- events ------------------------------------------------------------------------------------------------------


def test_one_event_several_and_json(client: openmeter.Client, world: World, metering: Metering) -> None:
    client.events.ingest_event(event("one", time=datetime(2026, 11, 10, 11, 59, 59, 123456, tzinfo=UTC)))
    client.events.ingest_events([event("two"), event("three"), event("two")])
    raw = {
        "id": "four",
        "source": "sdk",
        "specversion": "1.0",
        "type": "tokens",
        "subject": "acme",
        "data": {"value": 1},
    }
    client.events.ingest_events_json(Event(raw))
    client.events.ingest_events_json([Event(raw), Event({**raw, "id": "five"})])
    keep(metering)

    assert world.used("tokens") == world.total("tokens") == 302
    assert min(one.time for one in world.events()) == datetime(2026, 11, 10, 11, 59, 59, 123456, tzinfo=UTC)


def test_what_is_wrong_becomes_the_exception_of_its_kind(client: openmeter.Client, endpoint: str) -> None:
    client.events.ingest_event(event("taken"))
    with pytest.raises(ResourceExistsError):
        client.events.ingest_event(event("taken", 101))
    with pytest.raises(HttpResponseError) as bad:
        client.events.ingest_events([event("fine"), event("bad", -1)])
    assert bad.value.status_code == 400
    assert bad.value.response.json()["errors"] == [{"index": 1, "pointer": "/data/value", "reason": "is negative"}]
    with pytest.raises(ResourceNotFoundError):
        client.meters.query_json("nonsense")
    with openmeter.Client(endpoint=endpoint, token="mk_00_wrong") as stranger, pytest.raises(ClientAuthenticationError):
        stranger.meters.list()


# -- meters ------------------------------------------------------------------------------------------------------


def test_the_list_of_meters_is_a_bare_array(client: openmeter.Client) -> None:
    meters = {one.slug: one for one in client.meters.list(page=1, page_size=50, order="ASC", order_by="key")}

    tokens = meters["tokens"]
    assert (tokens.aggregation, tokens.event_type, tokens.value_property) == ("SUM", "tokens", "$.value")
    assert tokens.group_by == {"model": "$.model"}
    assert client.meters.get("tokens").id == tokens.id


@pytest.fixture
def used(client: openmeter.Client, metering: Metering) -> None:
    hours = [("a", 1, "small"), ("b", 1, "large"), ("c", 3, "small")]
    events = [event(id, 10 * hour, model=model, time=NOON - timedelta(hours=hour)) for id, hour, model in hours]
    client.events.ingest_events([*events, event("d", 5, "umlaut-co", time=NOON - timedelta(hours=1))])
    keep(metering)


@pytest.mark.usefixtures("used")
def test_a_query_by_hour_and_group(client: openmeter.Client) -> None:
    result = client.meters.query_json(
        "tokens",
        from_parameter=NOON - timedelta(hours=4),
        to=NOON,
        window_size="HOUR",
        window_time_zone="Europe/Berlin",
        subject=["acme"],
        filter_customer_id=["acme", "umlaut-co"],
        group_by=["model", "subject"],
    )

    found = [(row.window_start.hour, row.subject, row.group_by, row.value) for row in result.data]
    assert found == [
        (9, "acme", {"model": "small"}, 30),
        (11, "acme", {"model": "large"}, 10),
        (11, "acme", {"model": "small"}, 10),
    ]
    assert (result.window_size, result.to) == ("HOUR", NOON)


@pytest.mark.usefixtures("used")
def test_without_a_window_there_is_one_row(client: openmeter.Client) -> None:
    result = client.meters.query_json("tokens", from_parameter=NOON - timedelta(days=1), to=NOON)

    assert [(row.value, row.window_start, row.window_end, row.group_by) for row in result.data] == [
        (55, NOON - timedelta(days=1), NOON, {})
    ]


@pytest.mark.usefixtures("used")
def test_a_query_by_body(client: openmeter.Client) -> None:
    request = MeterQueryRequest(window_size="DAY", subject=["acme"], filter_group_by={"model": ["small"]})

    assert [row.value for row in client.meters.query("tokens", request).data] == [40]


@pytest.mark.usefixtures("used")
def test_a_query_as_csv(client: openmeter.Client) -> None:
    text = client.meters.query_csv(
        "tokens", from_parameter=NOON - timedelta(hours=2), to=NOON, group_by=["subject", "model"]
    )

    assert text.splitlines() == [
        "window_start,window_end,subject,model,value",
        "2026-11-10T10:00:00Z,2026-11-10T12:00:00Z,acme,large,10",
        "2026-11-10T10:00:00Z,2026-11-10T12:00:00Z,acme,small,10",
        "2026-11-10T10:00:00Z,2026-11-10T12:00:00Z,umlaut-co,small,5",
    ]


# -- entitlements ------------------------------------------------------------------------------------------------


def test_an_entitlement_tells_what_is_left(client: openmeter.Client, world: World) -> None:
    client.events.ingest_event(event("much", 10_500))

    value = client.customer_entitlement.get_customer_entitlement_value("acme", "tokens")
    assert (value.has_access, value.balance, value.usage, value.overage) == (False, 0, 10_500, 500)
    assert value.total_available_grant_amount == 10_000
    free = client.customer_entitlement.get_customer_entitlement_value("acme", "messages")
    assert (free.has_access, free.balance, free.usage) == (True, 100, 0)
    assert client.customer_entitlement.get_customer_entitlement_value("umlaut-co", "tokens").has_access is True
    assert client.customer_entitlement.get_customer_entitlement_value("acme", "a/b c").has_access is False


def test_the_second_version_says_the_same(client: openmeter.Client) -> None:
    value = client.customer_entitlement_v2.get_customer_entitlement_value("acme", "messages")

    assert (value.has_access, value.balance) == (True, 100)


def test_access_is_all_entitlements_at_once(client: openmeter.Client) -> None:
    access = client.customer.get_customer_access("acme")

    assert access.entitlements["messages"].balance == 100
    assert access.entitlements["tokens"].has_access is True
    with pytest.raises(ResourceNotFoundError):
        client.customer.get_customer_access("nobody")


# -- async -------------------------------------------------------------------------------------------------------


def test_the_async_client_does_the_same(endpoint: str, token: str, world: World, metering: Metering) -> None:
    async def story() -> tuple[Any, ...]:
        async with openmeter.aio.Client(endpoint=endpoint, token=token) as client:
            await client.events.ingest_event(event("one", 7))
            await client.events.ingest_events([event("two", 8), event("one", 7)])
            await client.events.ingest_events_json(event("three", 9))
            with pytest.raises(ResourceExistsError):
                await client.events.ingest_event(event("one", 8))
            await asyncio.to_thread(keep, metering)
            later = NOON + timedelta(minutes=1)
            result = await client.meters.query_json("tokens", to=later, window_size="MINUTE", subject=["acme"])
            posted = await client.meters.query("tokens", MeterQueryRequest(subject=["acme"], to=later))
            table = await client.meters.query_csv("tokens", to=later)
            value = await client.customer_entitlement.get_customer_entitlement_value("acme", "tokens")
            second = await client.customer_entitlement_v2.get_customer_entitlement_value("acme", "tokens")
            access = await client.customer.get_customer_access("acme")
            meters = await client.meters.list()
            return result, posted, table, value, second, access, meters

    result, posted, table, value, second, access, meters = asyncio.run(story())

    assert [row.value for row in result.data] == [row.value for row in posted.data] == [24]
    assert table.splitlines()[0] == "window_start,window_end,value"
    assert value.usage == second.usage == access.entitlements["tokens"].usage == world.used("tokens") == 24
    assert "tokens" in {one.slug for one in meters}
