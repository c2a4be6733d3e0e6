"""The pages of a webhook's endpoint: what it is sent can be changed, and its log is read a page at a time."""

import re
from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import select

from metering.dashboard.webhook_log import SHOWN
from metering.models import AuditEntry, WebhookDelivery, WebhookEndpoint
from metering.notify.deliveries import ping
from metering.notify.endpoints import create_endpoint
from tests.factories.people import Visitor, make_user
from tests.factories.world import World

URL = "https://hooks.example.com/metering"
LINK = re.compile(r'rel="(prev|next)" href="([^"]+)"')


@pytest.fixture
def endpoint(world: World) -> WebhookEndpoint:
    customer = world.customer("acme", "pro")
    make_user(world, "owner@acme.example", customer)
    endpoint = create_endpoint(world.session, customer, url=URL, events=["alert.crossed"], now=world.now)
    endpoint.failing_since = world.now - timedelta(days=1)
    world.session.commit()
    return endpoint


@pytest.fixture
def owner(app: Flask, endpoint: WebhookEndpoint) -> Visitor:
    visitor = Visitor.of(app)
    visitor.log_in("owner@acme.example")
    return visitor


def test_an_endpoint_is_changed(world: World, owner: Visitor, endpoint: WebhookEndpoint) -> None:
    one, secret = f"/c/acme/webhooks/{endpoint.id}", endpoint.secret

    answer = owner.submit(one, one, url="https://new.example.com/", events=["invoice.paid", "limit.reached"])

    assert answer.status_code == 303
    world.session.refresh(endpoint)
    assert (endpoint.url, endpoint.events) == ("https://new.example.com/", ["limit.reached", "invoice.paid"])
    assert (endpoint.secret, endpoint.failing_since) == (secret, None)
    noted = world.session.scalars(select(AuditEntry)).one()
    assert noted.action == "webhook_endpoint.change"
    assert noted.detail["url"] == "https://new.example.com/"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"url": "https://10.0.0.1/", "events": "invoice.paid"}, "is no public address"),
        ({"url": "https://new.example.com/"}, "Choose at least one"),
        ({"url": "https://new.example.com/", "events": "no.such"}, "Choose at least one"),
    ],
)
def test_what_can_not_be_sent_to_is_refused_where_it_stands(
    world: World, owner: Visitor, endpoint: WebhookEndpoint, fields: dict[str, str], says: str
) -> None:
    one = f"/c/acme/webhooks/{endpoint.id}"
    answer = owner.submit(one, one, **fields)
    assert answer.status_code == 422
    assert says in answer.text
    assert f'value="{fields["url"]}"' in answer.text
    world.session.refresh(endpoint)
    assert (endpoint.url, endpoint.events) == (URL, ["alert.crossed"])


def test_the_log_is_read_to_its_end_and_back(world: World, owner: Visitor, endpoint: WebhookEndpoint) -> None:
    for _ in range(2 * SHOWN + 3):
        ping(world.session, endpoint, now=world.now)
    world.session.commit()
    newest_first = [
        one.message_id
        for one in world.session.scalars(select(WebhookDelivery).order_by(WebhookDelivery.id.desc())).all()
    ]

    def shown(address: str) -> tuple[list[str], dict[str, str]]:
        page = owner.open(address).text
        return re.findall(r"<code>(msg_\w+)</code>", page), dict(LINK.findall(page))

    address, seen, ways = f"/c/acme/webhooks/{endpoint.id}", [], []
    while address:
        found, links = shown(address)
        seen += found
        ways.append(links)
        address = links.get("next", "")
    assert seen == newest_first
    assert [sorted(links) for links in ways] == [["next"], ["next", "prev"], ["prev"]]

    middle, links = shown(ways[2]["prev"])
    assert middle == newest_first[SHOWN : 2 * SHOWN]
    first, links = shown(links["prev"])
    assert first == newest_first[:SHOWN]
    assert sorted(links) == ["next"]


def test_a_place_that_is_none_shows_the_newest(owner: Visitor, endpoint: WebhookEndpoint) -> None:
    for place in ("x", "-1", str(2**63), ""):
        assert owner.open(f"/c/acme/webhooks/{endpoint.id}?before={place}").status_code == 200
