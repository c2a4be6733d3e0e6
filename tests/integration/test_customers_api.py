"""Customers by the HTTP API: made, listed, changed; their plan, now and at the end of the period."""

import threading
from datetime import timedelta
from itertools import pairwise

import pytest
from flask import Flask
from sqlalchemy import select

from metering.accounts.customers import change_plan
from metering.billing.periods import ensure_periods
from metering.models import AuditEntry, Customer, Period
from metering.service import Metering
from tests.factories.callers import ApiConsumer, keep
from tests.factories.managers import admin, operator
from tests.factories.world import World

CUSTOMERS = "/api/v1/customers"
ACME = f"{CUSTOMERS}/acme"


@pytest.fixture
def ops(app: Flask, world: World) -> ApiConsumer:
    return operator(app, world)


@pytest.fixture
def acme(app: Flask, world: World) -> ApiConsumer:
    return admin(app, world, world.customer("acme"))


@pytest.fixture
def stranger(app: Flask, world: World) -> ApiConsumer:
    return admin(app, world, world.customer("stranger"))


def limit(caller: ApiConsumer) -> int:
    found = caller.get("/api/v1/limits/api_call").json["limit"]
    assert isinstance(found, int)
    return found


def test_a_customer_is_made_and_can_be_served_at_once(ops: ApiConsumer, app: Flask, world: World) -> None:
    made = ops.post(CUSTOMERS, json={"key": "acme", "name": "Acme", "plan": "pro", "timezone": "Europe/Berlin"})

    assert (made.status_code, made.headers["Location"]) == (201, ACME)
    assert made.json["plan"] == "pro"
    assert (made.json["next_plan"], made.json["status"]) == (None, "active")
    key = ops.post(f"{ACME}/keys", json={"name": "server", "scopes": ["meter"]}).json["secret"]
    assert ApiConsumer(app, key, "acme").get("/api/v1/sample/ping").status_code == 200
    (entry,) = world.session.scalars(select(AuditEntry).where(AuditEntry.action == "customer.create"))
    assert entry.actor.startswith("key:")
    assert entry.customer_id == world.find("acme").id


@pytest.mark.parametrize(
    ("wrong", "code", "names"),
    [
        ({"key": "a b"}, "invalid-request", "key"),
        ({"key": "a\n"}, "invalid-request", "key"),
        ({"name": "  "}, "invalid-request", "name"),
        ({"name": "a\u0007b"}, "invalid-request", "name"),
        ({"name": 7}, "invalid-request", "name"),
        ({"plan": "gold"}, "unknown-plan", "plan"),
        ({"timezone": "Mars/Base"}, "unknown-time-zone", "timezone"),
        ({"timezone": "../../etc/passwd"}, "unknown-time-zone", "timezone"),
        ({"stripe_customer_id": "cus 1"}, "invalid-request", "stripe_customer_id"),
        ({"stripe_customer_id": "acct_1"}, "invalid-request", "stripe_customer_id"),
        ({"colour": "red"}, "invalid-request", "colour"),
    ],
)
def test_bad_input_is_refused_and_named(ops: ApiConsumer, wrong: dict, code: str, names: str) -> None:
    answer = ops.post(CUSTOMERS, json={"key": "acme", "name": "Acme", "plan": "free"} | wrong)

    assert (answer.status_code, answer.json["type"]) == (400, f"/problems/{code}")
    assert names in answer.json or [fault["field"] for fault in answer.json["errors"]] == [names]


def test_a_key_that_is_taken_is_a_conflict(ops: ApiConsumer, acme: ApiConsumer) -> None:
    assert ops.post(CUSTOMERS, json={"key": "acme", "name": "Other", "plan": "free"}).status_code == 409


def test_customers_are_listed_in_pages_that_leave_nobody_out(ops: ApiConsumer, world: World) -> None:
    keys = ["alpha", "Beta", "b_ta", "gamma", "delta"]
    for key in keys:
        world.customer(key)

    seen, cursor = [], None
    while True:
        page = ops.get(CUSTOMERS, query_string={"limit": 2} | ({"cursor": cursor} if cursor else {})).json
        seen += [one["key"] for one in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert seen == sorted(keys)


def test_customers_are_found_by_how_their_key_or_name_begins(ops: ApiConsumer, world: World) -> None:
    world.customer("c1").name = "Initech"
    world.customer("c_2").name = "initrode"
    world.customer("cx2").name = "Acme"
    world.session.commit()

    def found(begins: str) -> list[str]:
        return [one["key"] for one in ops.get(CUSTOMERS, query_string={"q": begins}).json["items"]]

    assert found("INIT") == ["c1", "c_2"]
    assert found("c_") == ["c_2"]  # no wildcard
    assert found("c") == ["c1", "c_2", "cx2"]
    assert found("%") == []


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "cursor=!", "cursor=AA", "q=%07", "page=2"])
def test_a_bad_query_is_refused_and_named(ops: ApiConsumer, query: str) -> None:
    answer = ops.get(f"{CUSTOMERS}?{query}")

    assert (answer.status_code, answer.json["type"]) == (400, "/problems/invalid-request")
    assert answer.json["errors"][0]["field"] == query.split("=")[0]


def test_a_customer_reads_and_names_itself_and_a_stranger_finds_nothing(
    acme: ApiConsumer, stranger: ApiConsumer, ops: ApiConsumer
) -> None:
    assert acme.get(ACME).json["name"] == "Acme"
    assert acme.call("PATCH", ACME, json={"name": "Acme Corp", "timezone": "Europe/Vienna"}).status_code == 200
    assert ops.get(ACME).json["name"] == "Acme Corp"

    for method in ("GET", "PATCH"):
        answer = stranger.call(method, ACME, json={"name": "Mine"})
        assert (answer.status_code, answer.json["type"]) == (404, "/problems/unknown-customer")
        assert answer.json["detail"] == ops.get(f"{CUSTOMERS}/nobody").json["detail"].replace("nobody", "acme")
    assert ops.get(ACME).json["name"] == "Acme Corp"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", CUSTOMERS, {"key": "new", "name": "New", "plan": "enterprise"}),
        ("GET", CUSTOMERS, None),
        ("PUT", f"{ACME}/plan", {"plan": "enterprise"}),
        ("PATCH", ACME, {"status": "active"}),
        ("PATCH", ACME, {"stripe_customer_id": "cus_1"}),
        ("PATCH", ACME, {"stripe_customer_id": None}),
        ("GET", "/api/v1/operator-keys", None),
        ("POST", "/api/v1/operator-keys", {"name": "mine", "scopes": ["admin"]}),
        ("DELETE", "/api/v1/operator-keys/1", None),
    ],
)
def test_a_customer_cannot_do_what_only_operators_may(
    acme: ApiConsumer, ops: ApiConsumer, method: str, path: str, body: object
) -> None:
    before = ops.get(ACME).json

    answer = acme.call(method, path, json=body) if body else acme.call(method, path)

    assert (answer.status_code, answer.json["type"]) == (403, "/problems/not-permitted")
    assert ops.get(ACME).json == before


def test_the_scope_is_needed(app: Flask, world: World) -> None:
    reader = admin(app, world, world.customer("acme"), "usage:read", "meter")
    weak = operator(app, world, "usage:read", "events:write")

    assert reader.get(ACME).status_code == 403
    assert weak.get(ACME).status_code == 403
    assert weak.post(CUSTOMERS, json={"key": "x", "name": "X", "plan": "free"}).status_code == 403


def test_a_suspended_customer_is_refused_at_once(acme: ApiConsumer, ops: ApiConsumer) -> None:
    assert ops.call("PATCH", ACME, json={"status": "suspended"}).json["status"] == "suspended"
    assert acme.get("/api/v1/sample/ping").status_code == 403

    ops.call("PATCH", ACME, json={"status": "active"})
    assert acme.get("/api/v1/sample/ping").status_code == 200


# -- If-Match --------------------------------------------------------------------------------------------------------


def test_a_change_may_say_what_it_was_made_for(ops: ApiConsumer, acme: ApiConsumer) -> None:
    seen = ops.get(ACME).headers["ETag"]
    assert seen == acme.get(ACME).headers["ETag"]
    first = ops.call("PATCH", ACME, json={"name": "One"}, headers={"If-Match": seen})

    second = ops.call("PATCH", ACME, json={"name": "Two"}, headers={"If-Match": seen})

    assert first.status_code == 200
    assert first.headers["ETag"] == ops.get(ACME).headers["ETag"] != seen
    assert (second.status_code, second.json["type"]) == (412, "/problems/precondition-failed")
    assert ops.get(ACME).json["name"] == "One"
    for header in (f'"other", {first.headers["ETag"]}', "*"):
        assert ops.call("PATCH", ACME, json={"name": "One"}, headers={"If-Match": header}).status_code == 200
    for header in (f"W/{first.headers['ETag']}", '"other"', ""):
        assert ops.call("PATCH", ACME, json={"name": "Two"}, headers={"If-Match": header}).status_code == 412
        assert ops.call("PUT", f"{ACME}/plan", json={"plan": "pro"}, headers={"If-Match": header}).status_code == 412


def test_of_many_writers_who_saw_the_same_one_wins(ops: ApiConsumer, acme: ApiConsumer) -> None:
    seen = ops.get(ACME).headers["ETag"]
    barrier, statuses = threading.Barrier(8), []

    def write(number: int) -> None:
        barrier.wait()
        body, path = ({"name": f"Writer {number}"}, ACME) if number % 2 else ({"plan": "pro"}, f"{ACME}/plan")
        method = "PATCH" if number % 2 else "PUT"
        statuses.append(ops.call(method, path, json=body, headers={"If-Match": seen}).status_code)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(statuses) == [200] + [412] * 7


# -- plans -----------------------------------------------------------------------------------------------------------


def test_a_plan_that_begins_now_holds_at_once_and_bills_the_period(
    ops: ApiConsumer, acme: ApiConsumer, metering: Metering, world: World
) -> None:
    assert limit(acme) == 1000
    world.record(world.event(quantity=700))

    answer = ops.call("PUT", f"{ACME}/plan", json={"plan": "pro"})

    assert (answer.json["plan"], answer.json["next_plan"]) == ("pro", None)
    assert limit(acme) == 100_000
    keep(metering)
    assert acme.get("/api/v1/estimate").json["total"] == "49.00"
    assert [period.plan for period in world.periods()] == ["pro", "pro"]


def test_a_plan_of_the_next_period_waits_for_it_and_stays(
    ops: ApiConsumer, acme: ApiConsumer, metering: Metering, world: World
) -> None:
    answer = ops.call("PUT", f"{ACME}/plan", json={"plan": "pro", "when": "period_end"})

    assert (answer.json["plan"], answer.json["next_plan"]) == ("free", "pro")
    assert answer.json["next_plan_at"] == "2026-12-01T00:00:00Z"
    assert limit(acme) == 1000
    assert acme.get("/api/v1/estimate").json["total"] == "0.00"
    november = world.periods()[0]

    # Not a moment earlier, and in the very moment: no job has run yet.
    world.now = november.ends_at - timedelta(microseconds=1)
    assert limit(acme) == 1000
    world.now = november.ends_at
    assert limit(acme) == 100_000
    shown = ops.get(ACME).json
    assert (shown["plan"], shown["next_plan"]) == ("pro", None)
    assert acme.get("/api/v1/estimate").json["total"] == "49.00"

    # The jobs make the periods that follow.
    customer = world.find("acme")
    assert customer.plan == "free"
    ensure_periods(world.session, [customer], world.now)
    world.session.commit()
    assert customer.plan == "pro"
    assert [period.plan for period in world.periods()] == ["free", "pro", "pro"]


def test_a_plan_of_the_next_period_holds_after_months_without_a_job(
    ops: ApiConsumer, acme: ApiConsumer, world: World
) -> None:
    ops.call("PUT", f"{ACME}/plan", json={"plan": "pro", "when": "period_end"})
    world.advance(days=150)

    assert limit(acme) == 100_000
    assert [period.plan for period in world.periods()][:3] == ["free", "pro", "pro"]


def test_another_time_zone_leaves_no_gap(ops: ApiConsumer, acme: ApiConsumer, world: World) -> None:
    for timezone, days in (("Pacific/Kiritimati", 40), ("America/Los_Angeles", 40), ("UTC", 0)):
        assert acme.call("PATCH", ACME, json={"timezone": timezone}).json["timezone"] == timezone
        world.advance(days=days)
        limit(acme)  # makes the periods that are missing

    periods = world.periods()
    assert len(periods) >= 4
    assert all(one.ends_at == other.starts_at for one, other in pairwise(periods))
    assert all(timedelta(days=27) < one.ends_at - one.starts_at < timedelta(days=33) for one in periods)


@pytest.mark.parametrize("when", ["now", "period_end"])
def test_a_plan_that_was_to_come_is_taken_back_by_setting_the_present_one(
    ops: ApiConsumer, acme: ApiConsumer, world: World, when: str
) -> None:
    ops.call("PUT", f"{ACME}/plan", json={"plan": "pro", "when": "period_end"})

    answer = ops.call("PUT", f"{ACME}/plan", json={"plan": "free", "when": when})

    assert (answer.json["plan"], answer.json["next_plan"]) == ("free", None)
    world.now = world.periods()[0].ends_at
    assert limit(acme) == 1000


def test_a_change_of_plan_and_the_job_that_makes_periods_do_not_pass_each_other(
    world: World, metering: Metering
) -> None:
    """The job must not make the next period by the plan that it read before the change."""
    customer = world.customer("acme")
    world.now = world.periods()[0].ends_at + timedelta(hours=1)
    started, done = threading.Event(), threading.Event()

    def job() -> None:
        with metering.runtime.transaction() as session:
            started.set()
            ensure_periods(session, [session.get_one(Customer, customer.id)], world.now)
        done.set()

    with metering.runtime.transaction() as session:
        found = session.get_one(Customer, customer.id)
        change_plan(session, metering.settings, world.catalog, found, "pro", now=world.now)
        thread = threading.Thread(target=job)
        thread.start()
        started.wait()
        assert not done.wait(0.2)
    thread.join()

    plans = world.session.scalars(select(Period.plan).order_by(Period.starts_at)).all()
    assert plans == ["free", "pro", "pro"]


def test_the_command_knows_both_moments(app: Flask, acme: ApiConsumer, world: World) -> None:
    def run(*words: str) -> None:
        result = app.test_cli_runner().invoke(args=["metering", "customers", "plan", "acme", *words])
        assert result.exit_code == 0, result.output

    run("pro", "--when", "period_end")
    assert [period.plan for period in world.periods()] == ["free", "pro"]
    run("enterprise")
    assert [period.plan for period in world.periods()] == ["enterprise", "enterprise"]
