"""Each difference from Stripe is found, named by its cause, mended where that is safe, and kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, delete, text

from metering.clock import to_micros
from metering.embedded import Addresses
from metering.models import ReconciledDifference, Reconciliation
from metering.models.stripe import StripeChange
from metering.runtime import Runtime
from metering.stripe_sync.gateway import StripeFailed
from metering.stripe_sync.history import forget_old
from metering.stripe_sync.inbound import unsold
from metering.stripe_sync.reconcile import reconcile_some
from tests.conftest import running_app
from tests.factories.ledger import METER_EVENTS, Books, arm
from tests.factories.standin import KEY, StandinProcess
from tests.factories.standin import report as report_directly
from tests.factories.world import START, World

DELAY = 600.0
SERIES = 2 * 6
"""Both customers have six meters at Stripe, of which they use one."""

EVENTS = {"path": METER_EVENTS, "method": "POST"}


@pytest.fixture
def books(world: World, standin: StandinProcess, engine: Engine) -> Books:
    """Two customers whose usage of two hours was reported long ago."""
    books = Books(world, standin, engine).open()
    standin.set("delay", seconds=DELAY - 60)  # its clock goes on while a test runs
    for customer in ("acme", "bolt"):
        books.customer(customer)
    for _ in range(2):
        for customer in ("acme", "bolt"):
            books.use(5, customer)
        books.report_hours()
    books.advance(hours=1)
    return books


@pytest.fixture
def app(books: Books, servers: Addresses, tmp_path: Path) -> Iterator[Flask]:
    settings = {
        "database_url": servers.database_url,
        "redis_url": servers.redis_url,
        "stripe": "standin",
        "stripe_api_key": KEY,
        "stripe_api_base": books.standin.url,
        "stripe_summary_delay_seconds": DELAY,
    }
    with running_app(books.world, tmp_path, **settings) as app:
        yield app


def run(app: Flask, *args: str, status: int = 0) -> str:
    result = app.test_cli_runner().invoke(args=["metering", "stripe", *args])
    assert result.exit_code == status, result.output
    return result.output


def differences(app: Flask, *options: str, status: int = 0) -> dict[str, Any]:
    """What `reconcile` finds different, by customer and meter."""
    body = json.loads(run(app, "reconcile", "--json", *options, status=status))
    found = [one for one in body["series"] if one["causes"]]
    return {f"{one['customer']} {one['meter']}": one for one in found}


def stripe_customer(books: Books, key: str = "acme") -> str:
    found = books.world.find(key).stripe_customer_id
    assert found
    return found


def lose_at_stripe(books: Books, row: int = 0) -> None:
    """Stripe takes an event back that it had accepted, which nobody here asked for."""
    identifier = books.rows("accepted")[row].identifier
    books.standin.client().v1.billing.meter_event_adjustments.create(
        {"event_name": "api_call", "type": "cancel", "cancel": {"identifier": identifier}}
    )


class TestCauses:
    def test_nothing_differs(self, app: Flask, books: Books) -> None:
        body = json.loads(run(app, "reconcile", "--json"))

        found = [(one["meter"], one["used"], one["at_stripe"], one["causes"]) for one in body["series"]]
        used, unused = [one for one in found if one[1]], [one for one in found if not one[1]]
        assert body["compared"] == SERIES
        assert used == [("api_call", 10, 10, [])] * 2
        assert [one[1:] for one in unused] == [(0, 0, [])] * (SERIES - 2)
        assert f"{SERIES} compared, 0 differ" in run(app, "reconcile")

    def test_what_is_under_way_is_named(self, app: Flask, books: Books) -> None:
        books.use(3)
        assert differences(app)["acme api_call"]["causes"] == ["settling: 3"]
        books.advance(hours=2)
        books.owe()
        assert differences(app)["acme api_call"]["causes"] == ["pending: 3"]
        books.send()
        found = differences(app)["acme api_call"]
        assert (found["causes"], found["done"]) == (["accepted a moment ago: 3"], "nothing: it is under way")
        books.advance(seconds=DELAY)
        assert differences(app) == {}

    def test_what_waits_for_the_operator_is_named(self, app: Flask, books: Books) -> None:
        books.use(3)
        books.advance(hours=2)
        books.owe()
        with books.engine.begin() as connection:
            connection.execute(text("UPDATE stripe_reports SET event_name = 'nothing' WHERE state = 'pending'"))
        books.send()
        found = differences(app, status=1)["acme api_call"]
        assert (found["causes"], found["needs_operator"]) == (["parked: 3"], True)

        with books.engine.begin() as connection:
            connection.execute(text("UPDATE stripe_reports SET state = 'written_off' WHERE state = 'parked'"))
        assert differences(app)["acme api_call"]["causes"] == ["written off: 3"]

    def test_a_row_that_is_too_old_is_named(self, app: Flask, books: Books) -> None:
        books.use(3)
        books.advance(hours=2)
        books.owe()
        with books.engine.begin() as connection:
            connection.execute(
                text("UPDATE stripe_reports SET timestamp = timestamp - interval '36 days' WHERE state = 'pending'")
            )
        books.send()
        assert differences(app, status=1)["acme api_call"]["causes"] == ["too old: 3"]

    def test_doubt_and_cancels_are_named(self, app: Flask, books: Books) -> None:
        books.use(3)
        books.advance(hours=2)
        books.owe()
        with books.engine.begin() as connection:
            connection.execute(
                text("UPDATE stripe_reports SET state = 'doubtful', first_sent_at = :now WHERE state = 'pending'"),
                {"now": books.world.now - timedelta(days=1)},
            )
        assert differences(app)["acme api_call"]["causes"] == ["in doubt: 3"]

    def test_customers_and_meters_that_stripe_does_not_know_are_named(self, app: Flask, books: Books) -> None:
        books.customer("local", known=False)
        books.use(4, "local")
        with books.engine.begin() as connection:
            connection.execute(text("DELETE FROM stripe_meters WHERE event_name = 'tokens'"))
        books.use(9, meter="tokens")
        books.advance(hours=2)

        found = differences(app, status=1)
        assert found["local api_call"]["causes"] == ["no Stripe id: 4"]
        assert found["acme tokens"]["causes"] == ["not linked to a Stripe meter: 9"]
        assert "no Stripe id: local owes 4 of api_call in 1 hour\n" in run(app, "status")


class TestStripeLower:
    def test_it_is_topped_up_once_and_the_totals_are_equal(self, app: Flask, books: Books) -> None:
        lose_at_stripe(books)
        books.advance(seconds=DELAY)

        found = differences(app)["acme api_call"]
        assert found["causes"] == ["Stripe lower: -5.0"]
        assert (found["done"], found["needs_operator"]) == ("5 sent anew", False)
        assert differences(app)["acme api_call"]["causes"] == ["pending: 5"]  # not a second time

        books.send()
        books.advance(seconds=DELAY)
        assert differences(app) == {}
        assert books.counted() == books.used()
        assert [row.value for row in books.rows("observed")] == [-5]
        books.check()

    def test_the_hour_that_lacks_it_gets_it(self, app: Flask, books: Books) -> None:
        lose_at_stripe(books, row=2)  # the second hour
        books.advance(seconds=DELAY)
        differences(app)
        books.send()

        assert books.rows()[-1].timestamp == START + timedelta(hours=1)
        assert books.counted() == books.used()

    def test_nothing_is_sent_while_anything_of_the_hour_may_still_show(self, app: Flask, books: Books) -> None:
        lose_at_stripe(books)
        books.advance(seconds=DELAY)
        books.use(2, time=to_micros(START))
        arm(books, "drop_answer")
        books.owe()
        books.send()

        found = differences(app)["acme api_call"]
        assert "Stripe lower: -5.0, while rows are under way" in found["causes"]
        assert found["done"] == "nothing: it is under way"
        assert books.rows("observed") == []

    def test_a_final_invoice_is_not_topped_up(self, app: Flask, books: Books) -> None:
        end = books.world.periods()[0].ends_at
        lose_at_stripe(books)
        books.advance(seconds=(end - books.world.now).total_seconds() + 3600)

        found = differences(app, status=1)["acme api_call"]
        assert "final" in found["done"]
        assert books.rows("observed") == []


class TestStripeHigher:
    def test_the_operator_is_told_and_nothing_corrected(self, app: Flask, books: Books) -> None:
        report_directly(books.standin.client(), stripe_customer(books), int(START.timestamp()), "7")
        books.advance(seconds=DELAY)
        before = books.counted()

        found = differences(app, status=1)["acme api_call"]

        assert (found["causes"], found["done"]) == (["Stripe higher: +7.0"], "told the operator")
        books.owe()
        books.send()
        assert books.counted() == before

    def test_usage_of_a_meter_that_we_have_none_of_is_seen(self, app: Flask, books: Books) -> None:
        at = int(START.timestamp())
        report_directly(books.standin.client(), stripe_customer(books), at, "7", event_name="tokens")
        books.advance(seconds=DELAY)

        found = differences(app, status=1)

        assert {name: (one["used"], one["causes"]) for name, one in found.items()} == {
            "acme tokens": (0, ["Stripe higher: +7.0"])
        }

    def test_usage_of_a_period_that_we_have_none_of_is_seen(self, app: Flask, books: Books) -> None:
        end = books.world.periods()[0].ends_at
        books.advance(seconds=(end - books.world.now).total_seconds() + 3600)
        report_directly(books.standin.client(), stripe_customer(books), int(end.timestamp()) + 60, "7")
        books.advance(seconds=DELAY)

        (found,) = differences(app, "--period", f"{end:%Y-%m-%d}", status=1).values()

        assert (found["used"], found["causes"]) == (0, ["Stripe higher: +7.0"])
        assert found["period"]["starts_at"] == end.isoformat().replace("+00:00", "Z")


class TestStatus:
    """What was found stands until the same is compared again, whoever asks."""

    def shown(self, app: Flask) -> list[tuple[str, str]]:
        found = json.loads(run(app, "status", "--json"))
        assert found["figures"].get("stripe_differences", 0) == len(found["differences"])
        return [(one["customer"], one["meter"]) for one in found["differences"]]

    def test_what_was_asked_for_shows(self, app: Flask, books: Books) -> None:
        report_directly(books.standin.client(), stripe_customer(books), int(START.timestamp()), "7")
        books.advance(seconds=DELAY)
        run(app, "reconcile", status=1)

        assert self.shown(app) == [("acme", "api_call")]
        assert "acme api_call since 2026-11-01: Stripe higher: +7.0 (told the operator)" in run(app, "status")

    def test_only_a_comparison_of_the_same_replaces_it(self, app: Flask, books: Books) -> None:
        for key in ("acme", "bolt"):
            report_directly(books.standin.client(), stripe_customer(books, key), int(START.timestamp()), "7")
        books.advance(seconds=DELAY)
        run(app, "reconcile", "--customer", "acme", status=1)
        run(app, "reconcile", "--customer", "bolt", "--period", "2026-11-10", status=1)
        run(app, "reconcile", "--customer", "acme", "--period", "2026-10-10")
        assert self.shown(app) == [("acme", "api_call"), ("bolt", "api_call")]

        report_directly(books.standin.client(), stripe_customer(books), int(START.timestamp()), "-7")
        books.advance(seconds=DELAY)
        run(app, "reconcile", "--customer", "acme", "--period", "2026-11-10")
        assert self.shown(app) == [("bolt", "api_call")]

    def test_who_uses_without_a_subscription_is_named(self, app: Flask, books: Books) -> None:
        with books.engine.begin() as connection:
            connection.execute(
                text("""
                    DELETE FROM stripe_subscriptions
                    WHERE customer_id = (SELECT id FROM customers WHERE key = 'bolt')
                """)
            )
        books.world.customer("calm", "free", stripe_customer_id=books.gateway().ensure_customer("calm", "Calm"))
        for customer in ("acme", "bolt", "calm"):
            books.use(3, customer)
        books.advance(hours=2)

        # calm's plan costs nothing: it needs no subscription.
        (found,) = json.loads(run(app, "status", "--json"))["without_subscription"]

        assert (found["customer"], found["meter"], found["hours"], found["units"]) == ("bolt", "api_call", 1, 3)
        assert "no subscription: bolt (plan enterprise) used 3 of api_call in 1 hour, which" in run(app, "status")
        assert unsold(books.world.session, books.world.catalog) == ["bolt"]
        assert [unsold(books.world.session, books.world.catalog, one) for one in ("bolt", "calm")] == [["bolt"], []]

        books.use(10_001, "calm")  # recorded as a fact, it passes the limit: one is to be paid
        found = json.loads(run(app, "status", "--json"))["without_subscription"]
        assert {one["customer"] for one in found} == {"bolt", "calm"}
        assert unsold(books.world.session, books.world.catalog) == ["bolt", "calm"]

    def test_a_level_that_was_carried_over_to_a_free_plan_is_named(self, app: Flask, books: Books) -> None:
        """Given five seats of the pro plan, and what was used on that plan is settled."""
        books.world.customer("calm", "pro", stripe_customer_id=books.gateway().ensure_customer("calm", "Calm"))
        books.use(5, "calm", "seats")
        app.test_cli_runner().invoke(args=["metering", "customers", "plan", "calm", "free", "--when", "period_end"])
        (pro, *_) = books.world.periods("calm")
        books.advance(days=31)
        books.world.close_hours()
        books.world.session.execute(delete(StripeChange).where(StripeChange.period_id == pro.id))
        assert unsold(books.world.session, books.world.catalog) == ["calm"]

        books.use(-4, "calm", "seats")
        books.advance(hours=1)
        books.world.close_hours()
        assert unsold(books.world.session, books.world.catalog) == []


class TestScope:
    def test_one_customer_and_one_period(self, app: Flask, books: Books) -> None:
        lose_at_stripe(books)
        books.advance(seconds=DELAY)
        assert differences(app, "--customer", "bolt") == {}
        assert differences(app, "--customer", "acme", "--period", "2026-10-10") == {}
        assert "no customer nobody" in run(app, "reconcile", "--customer", "nobody", status=1)
        assert "no day" in run(app, "reconcile", "--period", "soon", status=2)
        assert list(differences(app, "--customer", "acme", "--period", "2026-11-10")) == ["acme api_call"]

    def test_money_stands_beside_it(self, app: Flask, books: Books) -> None:
        books.use(20_000_000, customer="bolt")
        found = differences(app)["bolt api_call"]
        assert (found["estimated"], found["invoiced"]) == (19990.01, None)


class TestRuns:
    @pytest.fixture
    def runtime(self, app: Flask) -> Runtime:
        runtime: Runtime = app.extensions["metering"].runtime
        return runtime

    def test_everybody_is_compared_once_a_day_and_it_is_kept(self, runtime: Runtime, app: Flask, books: Books) -> None:
        report_directly(books.standin.client(), stripe_customer(books), int(START.timestamp()), "7")
        books.advance(seconds=DELAY)

        assert reconcile_some(runtime, enough=lambda: False) == SERIES
        assert reconcile_some(runtime, enough=lambda: False) == 0
        with books.sessions() as session:
            (kept,) = session.query(ReconciledDifference).all()
        assert (kept.customer, kept.meter, kept.used, kept.at_stripe) == ("acme", "api_call", 10, 17)
        status = run(app, "status")
        assert "acme api_call since 2026-11-01: Stripe higher: +7.0 (told the operator)" in status
        figures = json.loads(run(app, "status", "--json"))["figures"]
        assert (figures["stripe_differences"], figures["stripe_reconciled_seconds_ago"]) == (1, 0)

        books.advance(days=1)
        assert reconcile_some(runtime, enough=lambda: False) == SERIES

    def test_it_goes_on_where_it_was_interrupted(self, runtime: Runtime, books: Books) -> None:
        turns = iter([False, False, True])
        assert reconcile_some(runtime, enough=lambda: next(turns)) == SERIES / 2
        books.standin.set("faults", kind="outage", method="GET")
        with pytest.raises(StripeFailed, match="unavailable"):
            reconcile_some(runtime, enough=lambda: False)
        books.standin.lift_faults()
        assert reconcile_some(runtime, enough=lambda: False) == SERIES / 2
        with books.sessions() as session:
            (run_,) = session.query(Reconciliation).all()
        assert (run_.compared, run_.finished_at) == (SERIES, books.world.now)

    def test_a_period_that_ended_is_compared_before_its_invoice_is_final(self, runtime: Runtime, books: Books) -> None:
        reconcile_some(runtime, enough=lambda: False)
        end = books.world.periods()[0].ends_at
        lose_at_stripe(books)
        books.advance(seconds=(end - books.world.now).total_seconds() - 60)
        reconcile_some(runtime, enough=lambda: False)  # that of the day; it tops up
        with books.engine.begin() as connection:
            connection.execute(text("DELETE FROM stripe_reports WHERE state IN ('observed', 'pending')"))
            connection.execute(text("UPDATE stripe_ledger SET reported = 5 WHERE reported > 5"))

        books.advance(minutes=46)
        assert reconcile_some(runtime, enough=lambda: False) == 0
        books.advance(minutes=4)
        assert reconcile_some(runtime, enough=lambda: False) == SERIES
        assert [row.value for row in books.rows("observed")] == [-5]
        assert reconcile_some(runtime, enough=lambda: False) == 0

    def test_old_runs_are_forgotten_with_what_they_found(self, runtime: Runtime, books: Books) -> None:
        report_directly(books.standin.client(), stripe_customer(books), int(START.timestamp()), "7")
        books.advance(seconds=DELAY)
        reconcile_some(runtime, enough=lambda: False)
        with runtime.transaction() as session:
            assert forget_old(session, now=books.world.now + timedelta(days=399), keep_days=400) == 0
            assert forget_old(session, now=books.world.now + timedelta(days=401), keep_days=400) == 1
            assert session.query(ReconciledDifference).count() == 0
