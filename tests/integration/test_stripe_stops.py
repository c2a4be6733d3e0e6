"""A key that Stripe refuses stops everything until somebody acts; ids of the other mode are refused at the start."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text

from metering import background
from metering.embedded import Addresses
from metering.errors import ConfigurationError
from metering.models import AuditEntry
from metering.settings import load_settings
from metering.stripe_sync import reporting
from metering.stripe_sync.gateway import StripeApi
from metering.stripe_sync.ledger import owe
from metering.stripe_sync.modes import refuse_foreign_ids
from tests.conftest import running_app
from tests.factories.ledger import Books
from tests.factories.standin import KEY, StandinProcess, make_meter
from tests.factories.stripe_params import judged_requests
from tests.factories.subscriptions import subscribed
from tests.factories.world import World

AppWith = Callable[..., Flask]


@pytest.fixture
def books(world: World, standin: StandinProcess, engine: Engine) -> Books:
    return Books(world, standin, engine).open()


@pytest.fixture
def app_with(books: Books, servers: Addresses, tmp_path: Path) -> Iterator[AppWith]:
    """The product with a key of its own, over the stand-in, in test mode of `acct_9`."""
    with ExitStack() as opened:

        def start(key: str = KEY, **more: Any) -> Flask:
            settings = {
                "database_url": servers.database_url,
                "redis_url": servers.redis_url,
                "stripe": "standin",
                "stripe_api_key": key,
                "stripe_api_base": books.standin.url,
            }
            app: AbstractContextManager[Flask] = running_app(books.world, tmp_path, **settings | more)
            return opened.enter_context(app)

        yield start


def run(app: Flask, *args: str, status: int = 0) -> str:
    result = app.test_cli_runner().invoke(args=["metering", *args])
    assert result.exit_code == status, result.output
    return result.output


def report(app: Flask) -> Any:
    return reporting.report(app.extensions["metering"].runtime)


class TestStops:
    def test_nothing_is_tried_until_an_operator_acts_and_everybody_sees_it(
        self, books: Books, app_with: AppWith
    ) -> None:
        books.customer()
        books.use(5)
        wrong, right = app_with("sk_wrong_key_123456"), app_with()

        assert report(wrong).needs_operator
        with judged_requests() as calls:
            again = report(wrong)
        assert (again.needs_operator, calls) == (True, [])
        assert "Invalid API Key" in (again.stopped or "")

        ready = wrong.test_client().get("/readyz").get_json()
        assert "Stripe refuses the key since 2026-11-10 12:00 UTC" in ready["stripe"]
        assert json.loads(run(wrong, "status", "--json"))["stripe_stopped"] == 1
        assert "Stripe refuses the key" in run(wrong, "stripe", "status")
        assert "sk_wrong_key_123456" not in json.dumps(ready) + run(wrong, "stripe", "status")
        assert right.test_client().get("/readyz").get_json()["stripe"] == "ok"  # another key is another matter

        assert report(right).accepted == 1
        assert books.counted() == books.used()

    def test_the_same_key_goes_on_after_resume(self, books: Books, app_with: AppWith) -> None:
        app = app_with("sk_wrong_key_123456")
        report(app)

        assert "reporting goes on" in run(app, "stripe", "resume")
        assert "was not stopped" in run(app, "stripe", "resume")
        with books.sessions() as session:
            (entry,) = session.query(AuditEntry).all()
        assert (entry.action, "Invalid API Key" in entry.detail["reason"]) == ("stripe.resume", True)

    def test_a_key_that_will_not_say_whose_it_is_stops_too(self, books: Books, app_with: AppWith) -> None:
        app = app_with("sk_live_0123456789abcdef", stripe="live")

        sent = report(app)

        assert sent.needs_operator
        assert "does not say which account" in (sent.stopped or "")


class TestModes:
    def test_ids_of_test_mode_are_refused_with_a_live_key(self, books: Books) -> None:
        live = StripeApi(books.standin.client(), "live:acct_9")
        meter = make_meter(books.standin.client(), "extra")
        session = books.world.session

        with pytest.raises(ConfigurationError, match=f"the meter: {meter.id} is not known in live mode of acct_9"):
            refuse_foreign_ids(session, live, {"the meter": meter.id})
        books.customer()
        with pytest.raises(ConfigurationError, match=r"customer acme: cus_\w+ is not known in live mode"):
            refuse_foreign_ids(session, live, {})

    def test_ids_of_another_account_are_refused(self, books: Books) -> None:
        test = StripeApi(books.standin.client(), "test:acct_9")
        session = books.world.session

        with pytest.raises(ConfigurationError, match="mtr_other is not known in test mode of acct_9"):
            refuse_foreign_ids(session, test, {"the meter": "mtr_other"})
        books.world.customer("acme", stripe_customer_id="cus_other")
        with pytest.raises(ConfigurationError, match="customer acme: cus_other"):
            refuse_foreign_ids(session, test, {})

    def test_one_unknown_customer_among_others_stops_nobody(self, books: Books) -> None:
        books.customer("bolt")
        books.world.customer("acme", stripe_customer_id="cus_other")

        refuse_foreign_ids(books.world.session, StripeApi(books.standin.client(), "test:acct_9"), {})

    def test_the_worker_does_not_start_with_them(
        self, books: Books, servers: Addresses, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        for name, value in {
            "METERING_ENV": "development",
            "METERING_HOME": str(tmp_path),
            "METERING_DATABASE_URL": servers.database_url,
            "METERING_REDIS_URL": servers.redis_url,
            "METERING_STRIPE": "live",
            "STRIPE_API_KEY": KEY,
            "STRIPE_ACCOUNT_ID": "acct_9",
            "METERING_STRIPE_API_BASE": books.standin.url,
            "STRIPE_API_CALL_METER_ID": "mtr_of_live_mode",
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(background, "configure_logs", lambda _: None)

        with pytest.raises(ConfigurationError, match="the Stripe meter for api_call: mtr_of_live_mode is not known"):
            background.run("rq")

    def test_each_mode_has_a_ledger_of_its_own(self, books: Books) -> None:
        subscribed(books.world.session, books.customer(), "live:acct_9")
        books.world.session.commit()
        books.use(5)
        books.report_hours()
        with books.engine.begin() as connection:
            connection.execute(
                text(
                    "INSERT INTO stripe_meters SELECT 'live:acct_9', meter_id, stripe_id, event_name FROM stripe_meters"
                )
            )
            connection.execute(text("UPDATE rollups SET units = units"))

        assert owe(books.world.session, "live:acct_9", now=books.world.now, settle_seconds=0) == 1
        assert {row.account for row in books.rows()} == {"standin", "live:acct_9"}


class TestSettings:
    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"stripe_api_key": "pk_live_1"}, "must be a secret or restricted key"),
            ({"stripe_api_key": "sk_live_1", "stripe_account_id": "9"}, "acct_"),
            ({"stripe_api_key": "sk_live_1", "period_grace_seconds": 3600}, "would miss its invoice"),
            ({"stripe_api_key": "sk_live_1", "stripe_events_per_second": 1000}, "less than 1000"),
            ({"stripe_api_key": "sk_live_1", "stripe_calls_per_second": 100}, "less than 100"),
            ({"stripe_api_key": "sk_live_1", "stripe_finalizes_seconds": 73 * 3600}, "less than or equal to 259200"),
        ],
    )
    def test_what_cannot_work_is_refused(self, settings: dict[str, Any], said: str) -> None:
        with pytest.raises(ConfigurationError, match=said):
            load_settings(stripe="live", **settings)

    def test_later_invoices_allow_later_usage(self) -> None:
        load_settings(
            stripe="live", stripe_api_key="sk_live_1", period_grace_seconds=6600, stripe_finalizes_seconds=7200
        )
