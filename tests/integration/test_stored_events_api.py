"""Stored events over HTTP: listed a page at a time, looked at, taken back and put right."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from metering.catalog import load_catalog
from metering.embedded import Addresses
from metering.models import AuditEntry
from metering.service import Metering
from metering.store.verify import verify
from tests.conftest import running_app
from tests.factories.callers import ApiConsumer, keep
from tests.factories.world import World
from tests.integration.test_events_api import event, operator, send

PATH = "/api/v1/events"


@pytest.fixture
def services(app: Flask, world: World) -> ApiConsumer:
    world.customer("acme", "enterprise")
    world.customer("globex", "enterprise")
    return operator(app, world, "events:write", "usage:read")


@pytest.fixture
def stored(services: ApiConsumer, metering: Metering) -> None:
    """Twelve events of acme, one a minute back from noon, and one of globex in between."""
    noon = datetime(2026, 11, 10, 12, tzinfo=UTC)
    moments = [(noon - timedelta(minutes=n)).isoformat() for n in range(12)]
    body = [event(f"e{n}", time=moment, data={"value": n, "to": f"u{n % 2}"}) for n, moment in enumerate(moments)]
    assert send(services, [*body, event("other", subject="globex", time=moments[3])]).status_code == 204
    keep(metering)


def ids(answer: Any) -> list[str]:
    events = answer.json if isinstance(answer.json, list) else answer.json["items"]
    return [one["event"]["id"] for one in events]


@pytest.mark.usefixtures("stored")
def test_pages_lead_from_the_newest_to_the_oldest(services: ApiConsumer) -> None:
    found, path = [], f"{PATH}?subject=acme&limit=5"
    while path:
        answer = services.get(path)
        found.append(ids(answer))
        link = answer.headers.get("Link", "")
        assert link == "" or link.endswith('; rel="next"')
        path = link.removesuffix('; rel="next"').strip("<>")

    assert found == [["e0", "e1", "e2", "e3", "e4"], ["e5", "e6", "e7", "e8", "e9"], ["e10", "e11"]]


@pytest.mark.usefixtures("stored")
def test_the_second_version_has_the_cursor_in_the_body(services: ApiConsumer) -> None:
    first = services.get("/api/v2/events?subject=acme&limit=8")
    second = services.get("/api/v2/events?subject=acme&limit=8&cursor=" + first.json["nextCursor"])

    assert (len(ids(first)), ids(second), second.json["nextCursor"]) == (8, ["e8", "e9", "e10", "e11"], None)


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("subject=globex", ["other"]),
        ("subject=acme&limit=4&from=2026-11-10T11:57:00Z", ["e0", "e1", "e2", "e3"]),
        ("subject=acme&from=2026-11-10T11:50:00Z&to=2026-11-10T11:52:00Z", ["e9", "e10"]),
        ("id=e7", ["e7"]),
        ("subject=acme&property[to]=u1&limit=3", ["e1", "e3", "e5"]),
        ("type=api_call", []),
        ("type=messages&meter=messages&customerId=globex", ["other"]),
        ("subject=acme&customerId=globex", []),
        ("subject=nobody", []),
        ("voided=true", []),
    ],
)
def test_filters(services: ApiConsumer, query: str, wanted: list[str]) -> None:
    assert ids(services.get(f"{PATH}?{query}"))[: len(wanted) or None] == wanted


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize("query", ["limit=101", "limit=0", "cursor=nonsense", "from=now", "late=maybe", "unknown=1"])
def test_a_query_that_is_none_is_refused(services: ApiConsumer, query: str) -> None:
    answer = services.get(f"{PATH}?{query}")

    assert (answer.status_code, answer.content_type) == (400, "application/problem+json")


@pytest.mark.usefixtures("stored")
def test_one_event_tells_all_of_itself(services: ApiConsumer) -> None:
    listed = services.get(f"{PATH}?id=e7").json[0]

    answer = services.get(f"{PATH}/{listed['eventId']}")

    assert answer.json == listed
    assert answer.json["event"] == {
        "specversion": "1.0",
        "id": "e7",
        "source": "test",
        "type": "messages",
        "subject": "acme",
        "time": "2026-11-10T11:53:00Z",
        "data": {"value": 7, "to": "u1"},
    }
    assert (answer.json["meter"], answer.json["quantity"], answer.json["late"]) == ("messages", 7, False)
    assert answer.json["period"] == {"start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z"}
    assert services.get(f"{PATH}/{'0' * 32}").status_code == 404
    assert services.get(f"{PATH}/nonsense").status_code == 404


@pytest.mark.usefixtures("stored")
def test_a_customer_sees_its_own_events_alone(app: Flask, services: ApiConsumer, world: World) -> None:
    globex = ApiConsumer(app, world.key(world.find("globex"), "usage:read", "events:write").secret, "globex")
    foreign = services.get(f"{PATH}?id=e7").json[0]["eventId"]

    assert ids(globex.get(PATH)) == ["other"]
    assert ids(globex.get(f"{PATH}?subject=acme")) == []
    assert globex.get(f"{PATH}/{foreign}").status_code == 404
    own = globex.get(PATH).json[0]["eventId"]
    assert globex.post(f"{PATH}/{own}/void", json={"reason": "too dear"}).status_code == 403


@pytest.mark.usefixtures("stored")
def test_a_voided_event_counts_nowhere_and_who_did_it_is_known(
    services: ApiConsumer, world: World, metering: Metering
) -> None:
    one = services.get(f"{PATH}?id=e7").json[0]["eventId"]

    answer = services.post(f"{PATH}/{one}/void", json={"reason": "sent by mistake"})
    keep(metering)

    assert (answer.status_code, answer.json["voidedAt"]) == (200, "2026-11-10T12:00:00Z")
    assert world.used("messages") == world.total("messages") == sum(range(12)) - 7
    assert ids(services.get(f"{PATH}?voided=true")) == ["e7"]
    assert services.post(f"{PATH}/{one}/void", json={"reason": "again"}).status_code == 409
    entry = world.session.scalars(select(AuditEntry).where(AuditEntry.action == "event.void")).one()
    assert entry.detail["reason"] == "sent by mistake"
    assert entry.actor.startswith("key:")


@pytest.mark.usefixtures("stored")
def test_a_corrected_event_is_stored_anew(services: ApiConsumer, world: World, metering: Metering) -> None:
    one = services.get(f"{PATH}?id=e7").json[0]["eventId"]

    answer = services.post(f"{PATH}/{one}/correct", json={"quantity": 2, "reason": "counted too much"})
    keep(metering)

    assert (answer.status_code, answer.json["quantity"]) == (201, 2)
    assert answer.json["event"]["time"] == "2026-11-10T11:53:00Z"
    assert world.used("messages") == world.total("messages") == sum(range(12)) - 5
    again = services.post(f"{PATH}/{one}/correct", json={"quantity": 2, "reason": "again"})
    assert (again.status_code, again.json["type"]) == (409, "/problems/conflict")
    bad = services.post(f"{PATH}/{answer.json['eventId']}/correct", json={"quantity": -2, "reason": "less"})
    assert (bad.status_code, bad.json["type"]) == (400, "/problems/bad-quantity")
    assert services.post(f"{PATH}/{one}/correct", json={"quantity": 2}).status_code == 400
    assert [one.name for one in verify(metering.runtime.engine, world.redis) if not one.holds] == []


@pytest.mark.usefixtures("stored")
def test_a_corrected_event_says_what_stands_in_its_place(
    services: ApiConsumer, world: World, metering: Metering
) -> None:
    one = services.get(f"{PATH}?id=e7").json[0]
    assert (one["correction"], one["corrects"]) == (None, None)

    def correct(event: str, quantity: int) -> str:
        world.advance(seconds=1)
        answer = services.post(f"{PATH}/{event}/correct", json={"quantity": quantity, "reason": "miscounted"})
        keep(metering)
        assert (answer.json["corrects"], answer.json["correction"]) == (one["eventId"], None)
        return str(answer.json["eventId"])

    first = correct(one["eventId"], 2)
    assert services.get(f"{PATH}/{one['eventId']}").json["correction"] == {"eventId": first, "quantity": 2}
    second = correct(first, 3)

    listed = {event["eventId"]: event for event in services.get(PATH).json}
    for told in (one["eventId"], first):
        assert listed[told]["correction"] == {"eventId": second, "quantity": 3}
    assert (listed[one["eventId"]]["quantity"], listed[one["eventId"]]["event"]) == (7, one["event"])
    services.post(f"{PATH}/{second}/void", json={"reason": "never happened"})
    assert services.get(f"{PATH}/{one['eventId']}").json["correction"] == {"eventId": second, "quantity": 0}
    assert services.get(f"{PATH}/{second}").json["correction"] is None
    assert not any(event["correction"] for event in services.get(f"{PATH}?voided=false").json)


def test_an_event_of_several_meters_is_taken_back_on_all_and_corrected_on_one(
    world: World, servers: Addresses, tmp_path: Path, project_root: Path
) -> None:
    source = tmp_path / "catalog.toml"
    mails = '\n[meters.mails]\nname = "Mails"\nunit = "mail"\naggregation = "count"\nevent_type = "messages"\n'
    source.write_text((project_root / "metering/catalog/default.toml").read_text() + mails)
    world.catalog = load_catalog(source)
    world.initialise()
    world.customer("acme", "enterprise")
    urls = {"database_url": servers.database_url, "redis_url": servers.redis_url, "catalog": source}
    with running_app(world, tmp_path, **urls) as app:
        metering = app.extensions["metering"]
        services = operator(app, world, "events:write", "usage:read")
        send(services, [event("a"), event("b", data={"value": 5})])
        keep(metering)
        both = {(one["event"]["id"], one["meter"]): one["eventId"] for one in services.get(PATH).json}

        services.post(f"{PATH}/{both['a', 'mails']}/void", json={"reason": "never sent"})
        corrected = services.post(f"{PATH}/{both['b', 'messages']}/correct", json={"quantity": 4, "reason": "four"})
        keep(metering)

        assert corrected.status_code == 201
        told = {(one["event"]["id"], one["meter"]): one["correction"] for one in services.get(PATH).json}
        assert told["b", "messages"] == {"eventId": corrected.json["eventId"], "quantity": 4}
        assert (told["b", "mails"], told["a", "mails"]) == (None, None)
        assert (world.used("messages"), world.used("mails")) == (4, 1)
        assert (world.total("messages"), world.total("mails")) == (4, 1)
        assert [one.name for one in verify(metering.runtime.engine, world.redis) if not one.holds] == []


def test_numbers_come_out_with_every_digit_they_went_in_with(services: ApiConsumer, metering: Metering) -> None:
    raw = (
        b'{"specversion":"1.0","id":"x","source":"s","type":"messages","subject":"acme","data":'
        b'{"value":1,"large":123456789012345678901234567890,"fine":0.1234567890123456789}}'
    )
    send(services, raw, "application/cloudevents+json")
    keep(metering)

    text = services.get(PATH).text

    assert '"large":123456789012345678901234567890' in text
    assert '"fine":0.1234567890123456789' in text
