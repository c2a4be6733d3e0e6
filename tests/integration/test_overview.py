"""The overview: where usage is heading, what was counted last; and the quick start that leads to it."""

import re
import subprocess
import sys
from datetime import timedelta

import pytest
from flask import Flask

from metering.dashboard import quickstart
from metering.dashboard.history import KEPT
from metering.extensions import db
from metering.models import Customer
from metering.store.event_list import newest_by_second
from tests.factories.people import Visitor, make_user
from tests.factories.shop import Served
from tests.factories.statements import counting
from tests.factories.world import World

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


def card(html: str, meter: str) -> str:
    return re.findall(rf'<article[^>]*aria-labelledby="usage-{meter}".*?</article>', html, re.DOTALL)[0]


def use(world: World, quantity: int, *, days_ago: int = 0, meter: str = "api_call") -> None:
    at = world.now - timedelta(days=days_ago)
    world.record(world.event(meter=meter, quantity=quantity, time=int(at.timestamp() * 1_000_000)))
    world.drain()


# -- where usage is heading --------------------------------------------------------------------------------------------


def test_a_card_says_where_its_usage_will_stand(world: World, owner: Visitor) -> None:
    """Given 7 days of 1,000 calls, half a day among them, then some 20 days more bring them to 29.1K."""
    for days_ago in range(7):
        use(world, 1_000, days_ago=days_ago)

    calls = card(owner.open("/c/acme/").text, "api_call")

    assert "About 29.1K by Nov 30" in words(calls)
    assert calls.count('class="spark-bar') == 14
    assert calls.count("spark-none") == 7
    assert "The last 14 days: most on Nov 4, 1,000 API calls" in calls


def test_a_card_says_when_the_limit_will_be_reached(world: World, owner: Visitor) -> None:
    for days_ago in (2, 1, 0):
        use(world, 20_000, days_ago=days_ago)

    assert "At the limit in 1 day" in words(card(owner.open("/c/acme/").text, "api_call"))


def test_the_bill_is_foretold(world: World, owner: Visitor) -> None:
    """Given 2,000 calls a day in the last 6.5 days, then 20.5 days more make 54.5K: 44.5K beyond the included 10K."""
    for days_ago in range(7):
        use(world, 1_857 if days_ago else 1_858, days_ago=days_ago)

    bill = words(owner.open("/c/acme/live/estimate").text)

    assert "$52.00 USD" in bill
    assert "$93.00 expected by Nov 30, 2026" in bill


def test_the_days_are_read_once_a_minute(app: Flask, world: World, owner: Visitor) -> None:
    use(world, 5)
    owner.open("/c/acme/live/usage")
    with app.app_context():
        engine = db.engine
    with counting(engine) as before:
        owner.open("/c/acme/live/usage")
    use(world, 5, days_ago=1)
    with counting(engine) as unchanged:
        told = owner.open("/c/acme/live/usage").text
    world.advance(seconds=KEPT.total_seconds())
    with counting(engine) as read_again:
        fresh = owner.open("/c/acme/live/usage").text

    assert before == unchanged
    assert read_again[0] > unchanged[0]
    assert [card(html, "api_call").count("spark-none") for html in (told, fresh)] == [13, 12]


@pytest.mark.parametrize("part", ["usage", "alerts", "estimate", "activity"])
def test_a_part_asks_no_more_however_much_was_used(app: Flask, world: World, owner: Visitor, part: str) -> None:
    with app.app_context():
        engine = db.engine
    asked = []
    for events in (3, 300):
        world.record(*(world.event(quantity=1) for _ in range(events)))
        world.drain()
        owner.open(f"/c/acme/live/{part}")
        with counting(engine) as count:
            owner.open(f"/c/acme/live/{part}")
        asked += count

    assert asked[0] == asked[1] < 20


# -- what plans include ------------------------------------------------------------------------------------------------


def test_a_plan_whose_limits_end_before_anything_costs_says_so(app: Flask, world: World) -> None:
    """Not 'included 10K' beside a limit of 1,000."""
    make_user(world, "owner@bolt.example", world.customer("bolt", "free"))
    visitor = Visitor.of(app)
    visitor.log_in("owner@bolt.example")

    page = visitor.open("/c/bolt/").text

    assert "Included All of it Extra cost None" in words(card(page, "api_call"))
    seats = card(page, "seats")
    assert "usage-ok" in seats
    assert "Limit reached" not in seats


# -- what was counted last ---------------------------------------------------------------------------------------------


def test_the_newest_events_are_shown_and_none_of_others(world: World, owner: Visitor) -> None:
    world.customer("bolt", "pro")
    world.record(world.event("bolt", quantity=77))
    for quantity in range(1, 12):
        world.record(world.event(quantity=quantity, properties={"path": f"/v1/<{quantity}>"}))
        world.advance(seconds=1)
    world.drain()

    shown = owner.open("/c/acme/live/activity").text

    assert re.findall(r"(\d+) API call", words(shown.partition("<ol")[2])) == [
        str(quantity) for quantity in range(11, 3, -1)
    ]
    assert "/v1/&lt;11&gt;" in shown
    assert "77" not in words(shown)


def test_nothing_is_sent_again_that_has_not_changed(world: World, owner: Visitor, acme: Customer) -> None:
    world.key(acme)
    use(world, 3)
    for part in ("activity", "quickstart"):
        html = owner.open(f"/c/acme/live/{part}").text
        if part == "quickstart":
            assert "hx-get" not in html, "all is done: nothing is waited for"
            continue
        address = re.findall(r'hx-get="([^"]+)"', html)[0].replace("&amp;", "&")
        assert owner.partial(address).status_code == 204
        use(world, 4)
        assert owner.partial(address).status_code == 200


def test_the_last_minutes_are_drawn_and_said(world: World, owner: Visitor, acme: Customer) -> None:
    world.record(world.event(quantity=40))
    world.advance(minutes=2)
    use(world, 10)

    shown = owner.open("/c/acme/").text

    assert "API calls per minute" in shown
    assert 'aria-label="50 API calls in the last 30 minutes, at most 40 in a minute"' in shown
    assert shown.count("pulse-bars") == 1


def test_no_more_of_the_last_minutes_is_read_than_is_allowed(world: World, acme: Customer) -> None:
    for _ in range(5):
        use(world, 1)
    since = world.now - timedelta(minutes=30)

    some = newest_by_second(world.session, acme.id, "api_call", since=since, most=3)
    everything = newest_by_second(world.session, acme.id, "api_call", since=since, most=6)

    assert (sum(some.units.values()), some.is_cut) == (3, True)
    assert (sum(everything.units.values()), everything.is_cut) == (5, False)


# -- the quick start ---------------------------------------------------------------------------------------------------


def test_the_steps_are_ticked_off_as_they_are_done(world: World, owner: Visitor, acme: Customer) -> None:
    assert "1 of 5 done" in owner.open("/c/acme/quickstart").text
    made = world.key(acme)
    keyed = owner.open("/c/acme/live/quickstart").text
    assert "2 of 5 done" in keyed
    assert made.prefix in keyed
    assert made.secret not in keyed

    use(world, 1)

    counted = owner.open("/c/acme/quickstart").text
    assert "4 of 5 done" in counted
    assert "beside what your Pro plan allows" in counted
    owner.submit("/c/acme/alerts", "/c/acme/alerts/thresholds", of="$", kind="money", value="90")
    assert "All set" in owner.open("/c/acme/quickstart").text


def test_a_free_plan_is_none_that_was_chosen(world: World, owner: Visitor, acme: Customer) -> None:
    acme.plan = "free"
    world.session.commit()
    assert "0 of 5 done" in owner.open("/c/acme/quickstart").text


def test_a_key_made_at_the_quick_start_stands_in_that_answer_alone(world: World, owner: Visitor) -> None:
    made = owner.submit("/c/acme/quickstart", "/c/acme/quickstart/key").text
    secret = re.findall(r'id="new-key">(mk_[^<]+)<', made)[0]
    assert f"export METERING_KEY={secret}" in made
    assert quickstart.PLACEHOLDER not in made
    assert owner.client.get("/api/v1/usage", headers={"Authorization": f"Bearer {secret}"}).status_code == 200

    again = owner.open("/c/acme/quickstart").text
    assert secret not in again
    assert quickstart.PLACEHOLDER in again


def test_the_examples_work_as_they_stand(app: Flask, world: World, acme: Customer) -> None:
    made, served = world.key(acme, "meter", "usage:read"), Served(app)
    try:
        shell = quickstart.shell_lines(served.url).replace(quickstart.PLACEHOLDER, made.secret)
        shell += "\n" + quickstart.usage_lines(served.url)
        said = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True).stdout
        python = quickstart.python_lines(served.url)
        environment = {"METERING_KEY": made.secret, "PATH": ""}
        told = subprocess.run(
            [sys.executable, "-c", python], capture_output=True, text=True, check=True, env=environment
        ).stdout
    finally:
        served.close()

    assert " 200 " in said.splitlines()[0]
    assert '"meter":"api_call"' in said.replace(" ", "")
    assert told.endswith("99998 left\n")
    assert world.used() == 2
