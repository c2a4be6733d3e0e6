"""`verify` compares what Stripe accepted with Stripe's own summaries, and sees a single wrong unit on either side."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import Engine, text

from metering.embedded import Addresses
from metering.store.verify import Difference
from metering.stripe_sync import gateway as gateways
from metering.stripe_sync.gateway import StripeApi
from metering.stripe_sync.verify import Day, findings
from tests.conftest import running_app
from tests.factories.ledger import Books, arm
from tests.factories.standin import KEY, StandinProcess, report
from tests.factories.world import START, World


@pytest.fixture
def books(world: World, standin: StandinProcess, engine: Engine) -> Books:
    """Two customers whose usage of three hours on two days was reported."""
    books = Books(world, standin, engine).open()
    for customer in ("acme", "bolt"):
        books.customer(customer)
        books.use(5, customer)
        books.use("0.25", customer, "compute_seconds")
    books.report_hours()
    books.use(7)
    books.report_hours()
    books.report_hours(days=1)
    books.use(9)
    books.report_hours()
    assert len(books.rows("accepted")) == len(books.rows()) == 6
    return books


@pytest.fixture
def app(books: Books, servers: Addresses, tmp_path: Path) -> Iterator[Flask]:
    """The product over the stand-in, linked already."""
    addresses = {"database_url": servers.database_url, "redis_url": servers.redis_url}
    stripe = {"stripe": "standin", "stripe_api_key": KEY, "stripe_api_base": books.standin.url}
    with running_app(books.world, tmp_path, **addresses, **stripe) as app:
        yield app


def verify(app: Flask, *options: str, status: int) -> Result:
    result = app.test_cli_runner().invoke(args=["metering", "verify", *options])
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    return result


def found(books: Books, gateway: StripeApi | None = None, delay: float = 0) -> list[tuple[str, str | None, int]]:
    """Who and what differs, and by how much."""
    settled_by = books.world.now - timedelta(seconds=delay)
    listed = findings(books.sessions, gateway or books.gateway(), settled_by=settled_by)
    differing = [one for one in listed if isinstance(one, Difference)]
    return [(one.customer, one.meter, int(one.actual - one.expected)) for one in differing]


def at_stripe(books: Books, value: int, customer: str = "acme", time: datetime = START) -> None:
    """An event of somebody else."""
    stripe_id = books.world.find(customer).stripe_customer_id
    assert stripe_id is not None
    report(books.standin.client(), stripe_id, int(time.timestamp()), str(value))


class TestCommand:
    def test_after_a_report_all_checks_hold_that_of_stripe_too(self, app: Flask) -> None:
        assert "ok   stripe" in verify(app, status=0).output
        checks = json.loads(verify(app, "--json", status=0).stdout)["checks"]
        assert checks[-1] == {
            "check": "stripe",
            "claim": "Stripe counted what it accepted",
            "holds": True,
            "fault": None,
            "differences": [],
            "not_looked_at": [],
        }

    def test_a_difference_is_named_by_customer_meter_and_amount(self, app: Flask, books: Books) -> None:
        at_stripe(books, 1)

        said = verify(app, status=1).output
        assert "FAIL stripe" in said
        assert f"acme api_call {START:%Y-%m-%d} UTC, cus_" in said
        assert "is 13, should be 12 (by +1)" in said
        last = json.loads(verify(app, "--json", status=1).stdout)["checks"][-1]
        assert (last["holds"], last["differences"][0]["by"]) == (False, 1)

    def test_with_stripe_away_it_says_so_and_does_not_hold(self, app: Flask, books: Books) -> None:
        books.standin.kill()

        assert "not looked at: Stripe: " in verify(app, status=1).output
        last = json.loads(verify(app, "--json", status=1).stdout)["checks"][-1]
        assert (last["check"], last["holds"]) == ("stripe", False)
        assert "Unexpected error communicating with Stripe" in last["fault"]

    def test_without_stripe_nothing_is_asked(self, books: Books, servers: Addresses, tmp_path: Path) -> None:
        addresses = {"database_url": servers.database_url, "redis_url": servers.redis_url}
        with running_app(books.world, tmp_path, **addresses) as app:
            assert "stripe" not in verify(app, status=0).output.replace("reported to Stripe", "")


class TestDifferences:
    @pytest.mark.parametrize("by", [1, -1])
    def test_a_unit_more_or_less_at_stripe(self, books: Books, by: int) -> None:
        at_stripe(books, by, "bolt")
        assert found(books) == [("bolt", "api_call", by)]

    @pytest.mark.parametrize("by", [1, -1])
    def test_a_unit_more_or_less_in_the_table(self, books: Books, engine: Engine, by: int) -> None:
        row = books.rows()[0]
        with engine.begin() as connection:
            connection.execute(text(f"UPDATE stripe_reports SET value = value + {by} WHERE id = {row.id}"))
        ((_, meter, difference),) = found(books)
        assert (meter, difference) == (row.event_name, -by)

    def test_differences_that_cancel_each_other_out_on_different_days_are_two(self, books: Books) -> None:
        at_stripe(books, 1)
        at_stripe(books, -1, time=START + timedelta(days=1))
        assert found(books) == [("acme", "api_call", 1), ("acme", "api_call", -1)]

    def test_usage_on_a_day_between_that_we_did_not_report(self, books: Books) -> None:
        books.report_hours(days=3)
        books.use(1)
        books.report_hours()
        at_stripe(books, 4, time=START + timedelta(days=2))
        assert found(books) == [("acme", "api_call", 4)]

    def test_more_days_than_stripe_lists_at_once(self, books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gateways, "PAGE", 1)
        assert found(books) == []

    def test_a_customer_that_stripe_does_not_know_keeps_no_other_from_being_looked_at(
        self, books: Books, engine: Engine
    ) -> None:
        with engine.begin() as connection:
            connection.execute(
                text("UPDATE stripe_reports SET stripe_customer_id = 'cus_gone' WHERE event_name = 'compute_seconds'")
            )
        at_stripe(books, 1, "bolt")
        assert found(books) == [("bolt", "api_call", 1)]


class TestDoubt:
    def test_what_was_settled_a_moment_ago_may_still_be_missing(self, books: Books) -> None:
        books.standin.set("delay", seconds=300)
        books.advance(minutes=20)
        assert found(books) == []
        books.use(3)
        books.report_hours()

        assert found(books) == [("acme", "api_call", -3)]
        assert found(books, delay=600) == []
        books.standin.set("delay", seconds=0)
        assert found(books, delay=600) == []

    def test_what_is_missing_longer_than_that_is_a_difference(self, books: Books) -> None:
        books.use(3)
        books.report_hours()
        books.standin.set("delay", seconds=3600)
        books.advance(minutes=11)

        assert found(books, delay=600) == [("acme", "api_call", -3)]

    @pytest.mark.parametrize("fault", ["drop_answer", "outage"])
    def test_a_row_without_an_answer_may_be_counted_or_not(self, books: Books, fault: str) -> None:
        books.use(3)
        arm(books, fault, times=1)
        books.report_hours()
        (row,) = books.rows("pending")
        assert row.first_sent_at is not None

        assert found(books) == []
        at_stripe(books, 1, time=books.world.now)
        ((customer, meter, _),) = found(books)  # a unit that no row explains
        assert (customer, meter) == ("acme", "api_call")

    def test_a_row_that_is_sent_while_we_look_is_no_difference(self, books: Books) -> None:
        books.use(3)
        books.advance(hours=1, minutes=5)
        assert books.owe() == 1

        class Meanwhile(StripeApi):
            def daily_summaries(self, *args: object) -> dict[datetime, Decimal]:
                books.send()
                return super().daily_summaries(*args)  # type: ignore[arg-type]

        api = books.gateway()
        assert found(books, Meanwhile(api._client, api.account)) == []
        assert len(books.rows("accepted")) == 7


@pytest.mark.parametrize(
    ("day", "found", "agrees"),
    [
        (Day(5), "5", True),
        (Day(5), "5.5", False),
        (Day(5, (3,)), "8", True),
        (Day(5, (3,)), "7", False),
        (Day(5, (3, -4)), "1", True),
        (Day(5, (3, -4)), "2", False),
        (Day(0, tuple(range(1, 14))), "91", True),
        (Day(0, tuple(range(1, 14))), "92", False),
        (Day(2**53 - 1), str(2**53), False),
        (Day(2**53 + 1), repr(float(2**53 + 1)), True),
    ],
)
def test_a_day_agrees_with_what_its_rows_may_add_up_to(day: Day, found: str, agrees: bool) -> None:
    assert day.agrees(Decimal(found)) is agrees
