"""The pages about events: the list with its filters and pages, and the way of one event to its invoice and Stripe."""

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import Engine, select

from metering.accounts.keys import create_key
from metering.models import ApiKey, Customer, Event
from metering.store.void import correct, void
from tests.factories.people import Visitor, make_user
from tests.factories.shop import Served, Shop
from tests.factories.standin import StandinProcess
from tests.factories.world import World

LIST = "/c/acme/events"
TAGS = re.compile(r"<[^>]+>")


@pytest.fixture
def acme(world: World) -> Customer:
    """On the pro plan, at noon of November 10."""
    customer = world.customer("acme", "pro")
    make_user(world, "owner@acme.example", customer, "owner")
    return customer


@pytest.fixture
def owner(app: Flask, acme: Customer) -> Visitor:
    visitor = Visitor.of(app)
    visitor.log_in("owner@acme.example")
    return visitor


def words(html: str) -> str:
    return " ".join(TAGS.sub(" ", html).split())


def listed(visitor: Visitor, query: str = "") -> list[str]:
    """The quantities that a page lists."""
    answer = visitor.open(LIST + query)
    assert answer.status_code == 200, answer.text
    found = re.findall(r'data-label="Quantity">([^<]+)<', answer.text)
    return [quantity for quantity in found if "seat" not in quantity]  # which the owner takes


def digest(world: World, id: str) -> str:
    world.session.commit()
    return world.session.scalars(select(Event.digest).where(Event.event_id == id)).one().hex


def at(world: World, **ago: float) -> int:
    return int((world.now - timedelta(**ago)).timestamp() * 1_000_000)


class TestList:
    def test_pages_hold_each_event_once_newest_first(self, world: World, owner: Visitor) -> None:
        for seconds in range(120):
            world.record(world.event(quantity=seconds + 1, time=at(world, seconds=seconds)))
        world.drain()

        seen, address = [], LIST
        while address:
            html = owner.open(address).text
            seen += re.findall(r'data-label="Quantity">([\d,]+) API', html)
            world.record(world.event(quantity=1_000))  # what comes in meanwhile moves nothing
            world.drain()
            older = re.findall(r'rel="next" href="([^"]+)"', html)
            address = older[0].replace("&amp;", "&") if older else ""

        assert seen == [str(quantity) for quantity in range(1, 121)]

    def test_filters_that_few_pass_look_back_for_so_long(self, world: World, owner: Visitor) -> None:
        path = {"path": "/a"}
        for days in (29, 31):
            world.record(world.event(quantity=days, time=at(world, days=days), properties=path))
        world.drain()

        assert listed(owner, "?property=path=/a") == ["29 API calls"]
        assert listed(owner, "?property=path=/a&from=2026-10-01") == ["29 API calls", "31 API calls"]
        assert listed(owner, "?meter=api_call") == ["29 API calls", "31 API calls"]

    def test_filters(self, world: World, owner: Visitor, acme: Customer) -> None:
        world.key(acme)
        key = world.session.scalars(select(ApiKey.id)).one()
        world.record(
            world.event(quantity=2, key_id=key, time=at(world, hours=1), properties={"path": "/v1/chat"}),
            world.event(meter="messages", quantity=3, time=at(world, days=3)),
            world.event(quantity=4, id="gone", time=at(world, days=2)),
        )
        world.drain()
        void(world.session, world.intake, world.find("acme"), "test", "gone", reason="r", actor="a", now=world.now)
        world.session.commit()

        assert listed(owner) == ["2 API calls", "4 API calls", "3 messages"]
        assert listed(owner, "?meter=messages") == ["3 messages"]
        assert listed(owner, f"?key={key}") == ["2 API calls"]
        assert listed(owner, "?property=path%3D/v1/chat") == ["2 API calls"]
        assert listed(owner, "?flag=voided") == ["4 API calls"]
        assert listed(owner, "?from=2026-11-07&to=2026-11-08") == ["4 API calls", "3 messages"]
        assert listed(owner, "?meter=&key=&flag=&from=&to=&property=") == ["2 API calls", "4 API calls", "3 messages"]
        assert "Of the last 30 days" in owner.open(f"{LIST}?flag=voided").text
        assert "Of the last 30 days" not in owner.open(f"{LIST}?flag=voided&from=2026-01-01").text
        assert "No event fits" in owner.open(f"{LIST}?meter=tokens").text

    @pytest.mark.parametrize(
        ("query", "reason"),
        [
            ("from=yesterday", "A day looks like"),
            ("from=0001-01-01", "too far away"),
            ("from=2026-11-08&to=2026-11-07", "must end after it begins"),
            ("key=x", "no such API key"),
            ("flag=x", "no such mark"),
            ("property=x", "given as name=value"),
            ("after=x", "this cursor is none"),
        ],
    )
    def test_what_cannot_be_asked_is_said(self, owner: Visitor, query: str, reason: str) -> None:
        answer = owner.open(f"{LIST}?{query}")

        assert (answer.status_code, reason in answer.text) == (400, True)

    def test_nobody_sees_events_of_others(self, app: Flask, world: World, owner: Visitor) -> None:
        make_user(world, "stranger@bolt.example", world.customer("bolt", "pro"))
        world.record(world.event(id="mine"))
        world.drain()
        stranger = Visitor.of(app)
        stranger.log_in("stranger@bolt.example")
        one = digest(world, "mine")

        assert owner.open(f"{LIST}/{one}").status_code == 200
        assert stranger.open(f"{LIST}/{one}").status_code == 404
        assert stranger.open(f"/c/bolt/events/{one}").status_code == 404
        assert one not in stranger.open("/c/bolt/events").text
        for nonsense in ("0" * 32, "x", "%00"):
            assert owner.open(f"{LIST}/{nonsense}").status_code in (400, 404)


class TestWay:
    def test_what_was_received_counted_and_added_up(self, world: World, owner: Visitor, acme: Customer) -> None:
        world.key(acme)
        key = world.session.scalars(select(ApiKey)).one()
        path = {"path": "/v1/<b>"}
        world.record(
            world.event(quantity=2, id="one", key_id=key.id, properties=path), world.event(quantity=5, properties=path)
        )
        world.drain()

        html = owner.open(f"{LIST}/{digest(world, 'one')}").text
        said = words(html)

        assert f"Received Durable since Nov 10, 2026, 12:00:00 Source test Id one API key test ({key.prefix}…)" in said
        assert "Added to the period’s total. Quantity 2 API calls" in said
        assert "Hour Nov 10, 12:00 – 13:00 Group path /v1/&lt;b&gt; Its total 7 API calls in 2 events" in said
        assert "On the bill of the Pro plan Its period ends on Dec 1, 2026, 00:00:00" in said
        assert "This meter is not reported to Stripe" in said
        assert "<b>" not in html

    def test_an_operators_key_is_not_named(self, world: World, owner: Visitor, acme: Customer) -> None:
        key, _ = create_key(
            world.session, None, name="secret name", scopes=["events:write"], now=world.now, by_operator=True
        )
        world.session.commit()
        world.record(world.event(id="theirs", key_id=key.id))
        world.drain()

        assert "An operator’s" in owner.open(LIST).text
        for page in (LIST, f"{LIST}/{digest(world, 'theirs')}"):
            assert "secret name" not in owner.open(page).text

    def test_a_correction_leads_to_what_it_replaced_and_back(self, world: World, owner: Visitor) -> None:
        world.record(world.event(quantity=9, id="wrong"))
        world.drain()
        event = (world.find("acme"), "test", "wrong", 4)
        made = correct(world.session, world.intake, world.catalog, *event, reason="r", actor="a", now=world.now)
        world.session.commit()
        first = digest(world, "wrong")

        old, new = owner.open(f"{LIST}/{first}").text, owner.open(f"{LIST}/{made.digest}").text

        assert f'href="{LIST}/{made.digest}">4 API calls</a>' in old
        assert "Taken back" in words(old)
        assert f'href="{LIST}/{first}">the one that was sent</a>' in new

    def test_a_level_accrues(self, world: World, owner: Visitor) -> None:
        world.record(world.event(meter="storage_bytes", quantity=5, id="kept"))
        world.drain()
        assert "Its hour is not closed yet" in owner.open(f"{LIST}/{digest(world, 'kept')}").text


@pytest.fixture
def shop(stripe_app: Flask, world: World, standin: StandinProcess, engine: Engine) -> Iterator[Shop]:
    served = Served(stripe_app)
    yield Shop(stripe_app, world, standin, engine, served.url).open()
    served.close()


def test_it_says_what_stripe_was_told(shop: Shop) -> None:
    """Given a subscriber's event, then its hour is open, later it waits, and then a row with a number is accepted."""
    world = shop.world
    world.record(world.event(id="free", time=at(world, hours=2)))
    world.drain()
    assert "there is no customer at Stripe yet" in shop.owner.open(f"{LIST}/{digest(world, 'free')}").text
    shop.buy("pro")
    shop.deliver()
    assert "no subscription ran then" in shop.owner.open(f"{LIST}/{digest(world, 'free')}").text
    world.advance(seconds=90)
    world.record(world.event(quantity=3, id="paid"))
    world.drain()
    page = f"{LIST}/{digest(world, 'paid')}"
    assert "Its hour is reported as a whole, once it is closed" in shop.owner.open(page).text

    world.advance(hours=2)
    assert "It waits to be reported" in shop.owner.open(page).text
    shop.app.test_cli_runner().invoke(args=["metering", "stripe", "report"])

    said = words(shop.owner.open(page).text)
    assert "Reported to Stripe Accepted" in said
    assert re.search(r"Row \S+: 3, accepted", said)
