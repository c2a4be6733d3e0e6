"""The operators' commands, as an operator runs them."""

import json
import re
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import select, text

from metering.cli.common import actor
from metering.embedded import Addresses
from metering.ids import partition_of
from metering.intake.scripts import prefix
from metering.models import ApiKey, AuditEntry, Membership, SetAside, User, Verification
from metering.operator.sentences import sentence
from tests.conftest import running_app
from tests.factories.fault_proxy import redis_proxy
from tests.factories.world import PARTITIONS, World


@pytest.fixture
def run(app: Flask):
    """Runs `flask metering …`; a failure shows its output."""

    def run(*words: str, status: int = 0, stdin: str = "") -> Result:
        result = app.test_cli_runner().invoke(args=["metering", *words], input=stdin)
        assert result.exit_code == status, result.output
        return result

    return run


def test_init_may_be_run_again(run) -> None:
    run("init")
    run("init")


def test_a_customer_a_user_and_a_key_can_use_the_product_at_once(run, world: World, app: Flask) -> None:
    run("customers", "create", "acme", "--name", "Acme", "--plan", "pro", "--timezone", "Europe/Berlin")
    options = ("--customer", "acme", "--role", "owner", "--password-stdin")
    run("users", "create", "Ada@Example.com", *options, stdin="correct horse battery\n")
    secret = run("keys", "create", "--customer", "acme", "--name", "server").stdout.strip()

    headers = {"Authorization": f"Bearer {secret}"}
    assert app.test_client().get("/api/v1/sample/ping", headers=headers).status_code == 200
    assert world.session.scalars(select(Membership.role)).one() == "owner"
    assert world.session.scalars(select(User.email)).one() == "ada@example.com"
    stored = world.session.scalars(select(ApiKey)).one()
    assert secret.startswith(stored.prefix)
    assert secret not in (stored.digest, stored.prefix)
    assert world.used("seats") == 1
    entries = world.session.scalars(select(AuditEntry).order_by(AuditEntry.id)).all()
    assert {one.actor for one in entries} == {actor()}
    acme = world.find("acme").id
    made = [(one.action, one.customer_id) for one in entries]
    assert made == [("customer.create", acme), ("user.create", None), ("member.add", acme), ("key.create", acme)]
    assert entries[-1].detail == {"key": stored.id, "name": "server", "scopes": stored.scopes}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("customers", "create", "a b", "--name", "X", "--plan", "pro"), "letters, digits"),
        (("customers", "create", "acme", "--name", "X", "--plan", "gold"), "there are: free, pro, enterprise"),
        (("customers", "create", "acme", "--name", "X", "--plan", "pro", "--timezone", "Mars/Base"), "no time zone"),
        (
            ("customers", "create", "acme", "--name", "X", "--plan", "pro", "--stripe-customer", "acct_1"),
            "'acct_1' is no id of a Stripe customer",
        ),
        (("customers", "stripe", "nobody", "cus_1"), "no customer 'nobody'"),
        (("keys", "create", "--customer", "nobody", "--name", "n"), "no customer 'nobody'"),
        (("usage", "nobody"), "no customer 'nobody'"),
        (("events", "void", "nobody", "e1", "--reason", "r"), "no customer 'nobody'"),
        (("set-aside", "replay", "7"), "no message that waits"),
    ],
)
def test_bad_input_is_explained_in_one_line(run, words: tuple[str, ...], says: str) -> None:
    result = run(*words, status=1)

    assert says in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("id", ["wrong", "cus_", "cus_1; drop", "CUS_1", "cus_1\n"])
def test_what_is_no_id_of_stripes_is_refused_where_it_is_entered(run, world: World, id: str) -> None:
    world.customer()

    assert "is no id of a Stripe customer" in run("customers", "stripe", "acme", id, status=1).output
    assert world.find("acme").stripe_customer_id is None
    run("customers", "stripe", "acme", status=2)


def test_a_weak_password_leaves_no_user(run, world: World) -> None:
    run("users", "create", "a@b.example", "--password-stdin", status=1, stdin="short\n")

    assert world.session.scalars(select(User)).all() == []


def test_events_write_is_granted_by_operators_only(run, world: World) -> None:
    run("keys", "create", "--operator", "--name", "ops")

    key = world.session.scalars(select(ApiKey)).one()
    assert key.customer_id is None
    assert "events:write" in key.scopes


def test_nothing_but_its_secret_goes_to_standard_output_even_where_it_is_not_in_force_yet(
    world: World, servers: Addresses, tmp_path: Path
) -> None:
    world.customer()
    proxy, redis_url = redis_proxy(servers.redis_url)
    with running_app(world, tmp_path, database_url=servers.database_url, redis_url=redis_url) as app:
        proxy.cut()
        result = app.test_cli_runner().invoke(args=["metering", "keys", "create", "--customer", "acme", "--name", "x"])

    assert result.exit_code == 0
    assert re.fullmatch(r"mk_[0-9a-f]{2}_[\w-]+\n", result.stdout)
    assert "state_not_sent" in result.stderr
    assert "not in force yet" in result.stderr


def test_usage_and_status_as_json(run, world: World) -> None:
    world.customer()
    world.record(world.event(quantity=7))

    usage = json.loads(run("usage", "acme", "--json").stdout)
    assert next(one for one in usage["meters"] if one["meter"] == "api_call")["used"] == 7
    status = json.loads(run("status", "--json").stdout)
    assert (status["backlog_entries"], status["set_aside_messages"]) == (1, 0)


@pytest.mark.parametrize("timezone", ["Europe/Berlin", "America/Lima", "UTC"])
def test_usage_shows_the_days_of_the_customer(run, world: World, timezone: str) -> None:
    world.customer(timezone=timezone)

    assert f"acme on free, 2026-11-01 to 2026-12-01 ({timezone})\n" in run("usage", "acme").output


def test_verify_ends_with_1_and_says_what_is_wrong_for_whom_by_how_much(run, world: World) -> None:
    world.customer()
    world.record(world.event(quantity=7))
    world.drain()
    run("verify")

    world.session.execute(text("UPDATE rollups SET units = units + 2"))
    world.session.commit()

    result = run("verify", status=1)
    assert "FAIL rollups" in result.output
    assert "acme api_call" in result.output
    assert "(by +2)" in result.output
    found = json.loads(run("verify", "--json", status=1).stdout)
    assert [check["check"] for check in found["checks"] if not check["holds"]] == ["rollups", "totals"]


def test_a_run_of_verify_is_kept_with_who_made_it_when_and_what_was_found(run, world: World) -> None:
    world.customer()
    run("verify")
    world.record(world.event(quantity=7))
    world.drain()
    world.session.execute(text("UPDATE rollups SET units = units + 2"))
    world.session.commit()
    run("verify", status=1)

    good, bad = world.session.scalars(select(Verification).order_by(Verification.id)).all()
    assert (good.holds, bad.holds, bad.fault) == (True, False, None)
    assert bad.asked_by == actor()
    assert bad.asked_at == bad.finished_at == world.now
    assert len(bad.checks) == bad.total
    found = {one["check"]: one["differences"] for one in bad.checks if not one["holds"]}
    assert found["rollups"][0]["by"] == 2


def test_what_verify_answers_does_not_depend_on_whether_it_can_be_kept(run, world: World) -> None:
    world.customer()
    kept = run("verify")
    world.session.execute(text("ALTER TABLE verifications ADD CONSTRAINT full_disk CHECK (false) NOT VALID"))
    world.session.commit()
    try:
        unkept = run("verify")
    finally:
        world.session.execute(text("ALTER TABLE verifications DROP CONSTRAINT full_disk"))
        world.session.commit()

    assert unkept.stdout == kept.stdout
    assert "verification_not_kept" in unkept.stderr
    assert len(world.session.scalars(select(Verification)).all()) == 1


def test_a_run_of_verify_that_cannot_be_made_is_kept_with_what_went_wrong(run, world: World) -> None:
    world.customer()
    world.session.execute(text("ALTER TABLE rollups RENAME TO away"))
    world.session.commit()
    try:
        run("verify", status=1)
    finally:
        world.session.execute(text("ALTER TABLE away RENAME TO rollups"))
        world.session.commit()

    kept = world.session.scalars(select(Verification)).one()
    assert kept.holds is None
    assert "rollups" in str(kept.fault)


def test_void_and_correct_reach_the_live_counter_and_are_audited(run, world: World) -> None:
    world.customer()
    world.record(world.event(quantity=7, id="a"), world.event(quantity=5, id="b"))
    world.drain()

    run("events", "void", "acme", "a", "--source", "test", "--reason", "wrong")
    run("events", "correct", "acme", "b", "3", "--source", "test", "--meter", "tokens", "--reason", "typo", status=1)
    correct = ("events", "correct", "acme", "b", "3", "--source", "test", "--meter", "api_call", "--reason", "typo")
    revised = run(*correct).stdout.strip()
    world.drain()

    assert world.used() == 3 == world.total()
    assert revised.startswith("b~")
    actions = world.session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all()
    assert actions == ["event.void", "event.void"]
    run("verify")


def test_a_message_set_aside_is_listed_and_replayed_once_its_cause_is_mended(run, world: World) -> None:
    world.customer()
    event = world.event(quantity=4)
    world.session.execute(text("UPDATE meters SET key = 'gone' WHERE key = 'api_call'"))
    world.session.commit()
    world.record(event)
    world.drain()
    (kept,) = json.loads(run("set-aside", "list", "--json").stdout)
    assert (kept["reason"], kept["customer"]) == ("unknown-meter", "acme")
    run("set-aside", "replay", str(kept["id"]), status=1)

    world.session.execute(text("UPDATE meters SET key = 'api_call' WHERE key = 'gone'"))
    world.session.commit()
    run("set-aside", "replay", str(kept["id"]))
    world.drain()

    assert world.total() == 4 == world.used()
    assert world.session.scalars(select(SetAside.resolution)).one() == "replayed"
    run("verify")


def test_a_message_set_aside_can_be_dismissed(run, world: World) -> None:
    world.customer()
    event = world.event()._replace(properties="{no json")
    world.record(event)
    world.drain()

    (kept,) = json.loads(run("set-aside", "list", "--json").stdout)
    run("set-aside", "dismiss", str(kept["id"]), "--reason", "a client's bug")

    assert json.loads(run("set-aside", "list", "--json").stdout) == []
    run("set-aside", "dismiss", str(kept["id"]), "--reason", "again", status=1)


def test_plan_suspension_and_revocation_hold_at_the_next_call(run, world: World, app: Flask) -> None:
    run("customers", "create", "acme", "--name", "Acme", "--plan", "free")
    secret = run("keys", "create", "--customer", "acme", "--name", "server").stdout.strip()
    headers = {"Authorization": f"Bearer {secret}"}
    client = app.test_client()

    def ping() -> tuple[int, str | None]:
        answer = client.get("/api/v1/sample/ping", headers=headers)
        return answer.status_code, answer.headers.get("X-RateLimit-Limit")

    assert ping() == (200, "1000")
    run("customers", "plan", "acme", "pro")
    assert ping() == (200, "100000")
    run("customers", "suspend", "acme")
    assert ping() == (403, None)
    run("customers", "activate", "acme")
    run("customers", "stripe", "acme", "cus_123")
    assert ping()[0] == 200
    run("keys", "revoke", "nonsense", "--customer", "acme", status=1)
    run("keys", "revoke", secret[:8], "--customer", "acme")
    assert ping() == (401, None)
    changes = world.session.scalars(select(AuditEntry).order_by(AuditEntry.id)).all()
    assert [sentence(one.action, one.detail) for one in changes] == [
        "made the customer",
        "made the API key “server”",
        "put the customer on the plan pro",
        "suspended the customer",
        "activated the customer",
        "linked the customer with Stripe",
        "revoked the API key “server”",
    ]
    assert {(one.actor, one.customer_id) for one in changes} == {(actor(), world.find("acme").id)}


def test_rebuild_brings_a_wrong_counter_back(run, world: World) -> None:
    world.customer()
    world.record(world.event(quantity=4))
    world.drain()
    (name,) = world.redis.keys(f"{prefix(partition_of('acme', PARTITIONS))}u:*".replace("{", "\\{"))
    world.redis.hset(name, "api_call", 99)

    run("rebuild")

    assert world.used() == 4
    run("verify")


def test_stripe_report_does_nothing_while_stripe_is_off(run) -> None:
    assert "METERING_STRIPE is off" in run("stripe", "report").output


# -- who there is ------------------------------------------------------------------------------------------------------


def test_customers_users_and_keys_are_listed(run, world: World) -> None:
    run("customers", "create", "acme", "--name", "Acme", "--plan", "pro")
    options = ("--customer", "acme", "--role", "owner", "--password-stdin")
    run("users", "create", "ada@example.com", *options, stdin="correct horse battery\n")
    run("keys", "create", "--customer", "acme", "--name", "server")

    assert "acme" in run("customers", "list").stdout
    assert [one["key"] for one in json.loads(run("customers", "list", "--json").stdout)] == ["acme"]
    shown = run("customers", "show", "acme").stdout
    assert "ada@example.com (owner)" in shown
    assert "server" in shown
    assert json.loads(run("customers", "show", "acme", "--json").stdout)["members"][0]["role"] == "owner"
    assert "acme:owner" in run("users", "list", "--customer", "acme").stdout
    user = json.loads(run("users", "list", "--json").stdout)[0]
    assert (user["email"], user["two_step"]) == ("ada@example.com", False)
    key = json.loads(run("keys", "list", "--customer", "acme", "--json").stdout)[0]
    assert (key["name"], key["revoked_at"]) == ("server", None)
    assert key["created_by"].startswith("cli:")
    assert run("keys", "list").stdout == "none\n"
    run("customers", "show", "nobody", status=1)


def test_an_operator_helps_who_cannot_get_in(run, world: World, app: Flask) -> None:
    run("users", "create", "ada@example.com", "--password-stdin", stdin="correct horse battery\n")

    link = run("users", "reset", "ada@example.com").stdout.strip()
    run("users", "one-step", "ada@example.com")

    assert app.test_client().get(link.removeprefix("http://localhost:8000")).status_code == 200
    done = world.session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all()
    assert done[-2:] == ["user.reset_link", "user.turn_off_two_step"]
    run("users", "reset", "nobody@example.com", status=1)
