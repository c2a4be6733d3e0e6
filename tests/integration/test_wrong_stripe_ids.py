"""A customer with a wrong Stripe id is found out, and put right: what was reported under it is owed again."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from metering.embedded import Addresses
from metering.models import AuditEntry, StripeReport
from metering.stripe_sync.gateway import STANDIN
from metering.stripe_sync.ledger import owe
from tests.conftest import running_app
from tests.factories.callers import ApiConsumer
from tests.factories.ledger import SETTLE_SECONDS, Books
from tests.factories.managers import operator
from tests.factories.standin import KEY, StandinProcess
from tests.factories.subscriptions import subscribed
from tests.factories.world import World

WRONG = "cus_wrong"
ACME = "/api/v1/customers/acme"


@pytest.fixture
def books(world: World, standin: StandinProcess, engine: Engine) -> Books:
    """acme has the id of nobody; bolt has its own."""
    books = Books(world, standin, engine).open()
    acme = world.customer("acme", "enterprise", stripe_customer_id=WRONG)
    subscribed(world.session, acme, STANDIN)
    world.session.commit()
    books.customer("bolt")
    return books


@pytest.fixture
def app(books: Books, servers: Addresses, tmp_path: Path) -> Iterator[Flask]:
    addresses = {"database_url": servers.database_url, "redis_url": servers.redis_url}
    stripe = {"stripe": "standin", "stripe_api_key": KEY, "stripe_api_base": books.standin.url}
    with running_app(books.world, tmp_path, **addresses, **stripe) as app:
        yield app


def run(app: Flask, *words: str, status: int = 0) -> Result:
    result = app.test_cli_runner().invoke(args=["metering", *words])
    assert result.exit_code == status, result.output
    return result


def use_and_report(books: Books) -> None:
    for customer in ("acme", "bolt"):
        books.use(8, customer)
        books.use("0.25", customer, "compute_seconds")
    books.report_hours()
    assert len(books.rows("accepted")) == 4


def known(books: Books) -> str:
    return books.gateway().ensure_customer("acme", "Acme")


def test_it_is_a_finding_of_its_own_that_says_what_to_do(app: Flask, books: Books) -> None:
    use_and_report(books)

    said = run(app, "verify", status=1).output
    assert "FAIL stripe" in said
    assert said.count("acme: not looked at: Stripe knows no such customer: cus_wrong.") == 1
    assert "flask metering customers stripe acme cus_" in said
    last = json.loads(run(app, "verify", "--json", status=1).stdout)["checks"][-1]
    assert (last["holds"], last["differences"], len(last["not_looked_at"])) == (False, [], 1)


def test_the_right_id_has_what_was_reported_owed_again_and_verify_holds(app: Flask, books: Books) -> None:
    use_and_report(books)
    right = known(books)

    run(app, "customers", "stripe", "acme", right)
    books.check()
    assert all(check["holds"] for check in json.loads(run(app, "verify", "--json").stdout)["checks"])
    books.report_hours()

    assert books.counted() == books.used()
    assert {customer for _, customer, _ in books.counted()} == {right, books.world.find("bolt").stripe_customer_id}
    books.check()
    run(app, "verify")
    entry = books.world.session.scalars(select(AuditEntry).where(AuditEntry.action == "stripe.link")).one()
    assert entry.detail == {"was": WRONG, "is": right, "rows_owed_again": 2}
    assert entry.actor.startswith("cli:")


def test_it_can_be_wrong_more_than_once(app: Flask, books: Books) -> None:
    for id in (WRONG, "cus_wrong2", WRONG, "cus_wrong2"):
        run(app, "customers", "stripe", "acme", id, "--unchecked")
        books.use(3)
        books.report_hours()

    run(app, "customers", "stripe", "acme", known(books))
    books.report_hours()

    assert books.counted() == books.used()
    books.check()
    run(app, "verify")


@pytest.mark.parametrize("state", ["pending", "parked"])
def test_what_waits_under_a_wrong_id_goes_to_the_right_one(app: Flask, books: Books, state: str) -> None:
    books.use(8)
    books.advance(hours=1, minutes=5)
    assert books.owe() == 1
    with books.engine.begin() as connection:
        connection.execute(update(StripeReport).values(state=state))

    run(app, "customers", "stripe", "acme", known(books))
    books.report_hours()

    assert books.counted() == books.used()
    assert len(books.rows("accepted")) == 1
    books.check()


def test_none_lets_the_standin_make_one(app: Flask, books: Books) -> None:
    use_and_report(books)

    run(app, "customers", "stripe", "acme", "--none")
    run(app, "stripe", "report")

    assert (books.world.find("acme").stripe_customer_id or "").startswith("cus_")
    assert books.counted() == books.used()
    run(app, "verify")


def test_an_id_under_which_usage_was_counted_stays(app: Flask, books: Books) -> None:
    use_and_report(books)
    ours = books.world.find("bolt").stripe_customer_id
    ops: ApiConsumer = operator(app, books.world)

    said = run(app, "customers", "stripe", "bolt", known(books), "--unchecked", status=1).output
    assert f"reported under {ours}, which Stripe knows" in said
    for id in ("cus_other", None):
        answer = ops.call("PATCH", "/api/v1/customers/bolt", json={"stripe_customer_id": id})
        assert (answer.status_code, answer.json["type"]) == (409, "/problems/conflict")
    run(app, "customers", "stripe", "bolt", str(ours))
    books.world.session.expire_all()
    assert books.world.find("bolt").stripe_customer_id == ours
    assert books.world.session.scalars(select(AuditEntry).where(AuditEntry.action == "stripe.link")).all() == []


def test_the_api_puts_it_right_too(app: Flask, books: Books) -> None:
    use_and_report(books)
    right, ops = known(books), operator(app, books.world)

    assert ops.call("PATCH", ACME, json={"stripe_customer_id": right}).json["stripe_customer_id"] == right
    books.report_hours()

    assert books.counted() == books.used()
    run(app, "verify")


def test_with_stripe_away_nothing_is_changed(app: Flask, books: Books) -> None:
    use_and_report(books)
    ops = operator(app, books.world)
    books.standin.kill()

    assert "Stripe: " in run(app, "customers", "stripe", "acme", "cus_right", status=1).output
    assert ops.call("PATCH", ACME, json={"stripe_customer_id": "cus_right"}).status_code == 503
    books.world.session.expire_all()
    assert books.world.find("acme").stripe_customer_id == WRONG
    assert len(books.rows("accepted")) == 4


def test_with_stripe_off_an_id_that_was_reported_under_stays(books: Books, servers: Addresses, tmp_path: Path) -> None:
    use_and_report(books)
    addresses = {"database_url": servers.database_url, "redis_url": servers.redis_url}
    with running_app(books.world, tmp_path, **addresses) as app:
        assert "METERING_STRIPE=off" in run(app, "customers", "stripe", "acme", "cus_right", status=1).output
        books.world.customer("copper", stripe_customer_id=WRONG)
        run(app, "customers", "stripe", "copper", "cus_right")


def test_no_row_is_made_under_the_old_id_while_it_is_changed(app: Flask, books: Books, engine: Engine) -> None:
    books.use(8)
    books.advance(hours=1, minutes=5)
    with Session(engine) as writer, ThreadPoolExecutor(1) as thread:
        assert owe(writer, "standin", now=books.world.now, settle_seconds=SETTLE_SECONDS) == 1
        changing = thread.submit(run, app, "customers", "stripe", "acme", known(books))
        with pytest.raises(TimeoutError):
            changing.result(timeout=0.5)
        writer.commit()
        changing.result(timeout=10)
    books.report_hours()

    assert books.counted() == books.used()


def test_an_id_that_stripe_does_not_know_is_refused(app: Flask, books: Books) -> None:
    before = books.world.find("bolt").stripe_customer_id

    assert "No such customer: 'cus_none'" in run(app, "customers", "stripe", "bolt", "cus_none", status=1).output

    client = books.standin.client()
    theirs = client.v1.customers.create({"metadata": {"metering_customer": "initech"}})
    said = run(app, "customers", "stripe", "bolt", theirs.id, status=1).output
    assert f"{theirs.id} is the customer initech at Stripe" in said
    books.world.session.expire_all()
    assert books.world.find("bolt").stripe_customer_id == before
