"""A Stripe meter that was deactivated, or is gone: no second one is made in its place, others go on, and there is a way
out.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import Engine, select, text

from metering.embedded import Addresses
from metering.models import AuditEntry, StripeMeter
from metering.store.meters import meter_ids
from metering.store.verify import verify
from tests.conftest import running_app
from tests.factories.ledger import Books
from tests.factories.standin import KEY, StandinProcess
from tests.factories.world import World


@pytest.fixture
def books(world: World, standin: StandinProcess, engine: Engine) -> Books:
    return Books(world, standin, engine)


@pytest.fixture
def app(books: Books, servers: Addresses, tmp_path: Path) -> Iterator[Flask]:
    settings = {
        "database_url": servers.database_url,
        "redis_url": servers.redis_url,
        "stripe": "standin",
        "stripe_api_key": KEY,
        "stripe_api_base": books.standin.url,
    }
    with running_app(books.world, tmp_path, **settings) as app:
        yield app


def run(app: Flask, *args: str, status: int = 0) -> str:
    result = app.test_cli_runner().invoke(args=["metering", "stripe", *args])
    assert result.exit_code == status, result.output
    return result.output


def named(books: Books, event_name: str) -> list[tuple[str, str]]:
    listed = books.standin.client().v1.billing.meters.list({"limit": 100})
    return [(meter.id, meter.status) for meter in listed if meter.event_name == event_name]


def deactivate(books: Books, event_name: str) -> str:
    ((id, _),) = named(books, event_name)
    books.standin.client().v1.billing.meters.deactivate(id)
    return id


class TestDeactivated:
    def test_a_push_makes_no_second_one_and_says_what_to_do(self, app: Flask, books: Books) -> None:
        books.open()
        id = deactivate(books, "tokens")
        with books.engine.begin() as connection:
            connection.execute(text("DELETE FROM stripe_meters"))  # the catalog finds its meters by their names

        said = run(app, "push", "--yes", status=1)

        assert f"the Stripe meter {id} for tokens is not active" in said
        assert "Reactivate it at Stripe" in said
        assert "STRIPE_TOKENS_METER_ID" in said
        assert named(books, "tokens") == [(id, "inactive")]

        books.standin.client().v1.billing.meters.reactivate(id)
        run(app, "push", "--yes")
        assert named(books, "tokens") == [(id, "active")]

    def test_its_usage_is_parked_that_of_others_goes_on_and_it_is_sent_once_when_it_is_active_again(
        self, app: Flask, books: Books
    ) -> None:
        books.open()
        books.customer()
        id = deactivate(books, "tokens")
        for meter in ("tokens", "api_call"):
            books.use(4, meter=meter)
        books.advance(hours=1, minutes=5)

        assert "1 accepted, 0 taken back, 0 looked up, 0 postponed, 1 parked" in run(app, "report")
        assert named(books, "tokens") == [(id, "inactive")]
        status = run(app, "status")
        assert "parked: 1 row of tokens: " in status

        books.standin.client().v1.billing.meters.reactivate(id)
        run(app, "retry", "--meter", "tokens")
        assert "1 accepted" in run(app, "report")
        assert books.counted() == books.used()
        assert {meter for meter, _, _ in books.counted()} == {"tokens", "api_call"}
        books.check()


class TestGone:
    def lose(self, books: Books, key: str = "tokens") -> None:
        """As if the data of a sandbox was deleted: Stripe does not know the linked meter."""
        session = books.world.session
        with books.engine.begin() as connection:
            connection.execute(
                text("UPDATE stripe_meters SET stripe_id = 'mtr_gone' WHERE meter_id = :id"),
                {"id": meter_ids(session)[key]},
            )
        session.rollback()

    def linked(self, books: Books, key: str = "tokens") -> str | None:
        session = books.world.session
        session.rollback()
        query = select(StripeMeter.stripe_id).where(StripeMeter.meter_id == meter_ids(session)[key])
        found = session.scalar(query)
        session.rollback()
        return found

    def test_one_that_nothing_was_reported_to_is_made_anew(self, app: Flask, books: Books) -> None:
        books.open()
        ((id, _),) = named(books, "tokens")
        self.lose(books)

        run(app, "push", "--yes")

        assert self.linked(books) == id

    def test_what_was_reported_to_it_is_owed_to_the_next_when_an_operator_says_so(
        self, app: Flask, books: Books
    ) -> None:
        books.open()
        books.customer()
        books.use(4, meter="tokens")
        books.report_hours()
        before = books.counted()
        self.lose(books)

        said = run(app, "push", "--yes", status=1)
        assert "the Stripe meter mtr_gone for tokens, which Stripe does not know any more" in said
        assert "stripe forget-meter tokens --note" in said

        assert "1 rows withdrawn" in run(app, "forget-meter", "tokens", "--note", "sandbox emptied")
        run(app, "push", "--yes")
        books.owe()
        books.send()

        assert {
            place: 2 * units for place, units in before.items()
        } == books.counted()  # the old one was not really gone
        assert self.linked(books) == named(books, "tokens")[0][0]
        books.check()
        assert [check.name for check in verify(books.engine, books.world.redis) if not check.holds] == []
        entry = books.world.session.scalars(select(AuditEntry).where(AuditEntry.action == "stripe.forget_meter")).one()
        assert entry.detail["was"] == "mtr_gone"
        books.world.session.rollback()

    def test_one_that_stripe_knows_is_not_forgotten(self, app: Flask, books: Books) -> None:
        books.open()
        id = self.linked(books)

        assert f"Stripe knows the meter {id}" in run(app, "forget-meter", "tokens", "--note", "why not", status=1)
        assert self.linked(books) == id
        assert "not linked" in run(app, "forget-meter", "nothing", "--note", "why not", status=1)

    def test_one_that_the_environment_names_is_named(
        self, app: Flask, books: Books, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("STRIPE_TOKENS_METER_ID", "mtr_other")

        assert "STRIPE_TOKENS_METER_ID: Stripe knows no meter mtr_other in standin" in run(app, "push", status=1)
        assert json.loads(run(app, "status", "--json"))["parked"] == []
