"""Usage that is taken back after it was reported: Stripe ends up with what is left, by a cancel or by a signed row."""

import signal
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text, update

from metering.clock import to_micros
from metering.models import Rollup
from metering.store.verify import verify
from metering.stripe_sync.decisions import write_off
from tests.factories.ledger import Books
from tests.factories.standin import StandinProcess
from tests.factories.world import START, World

ADJUSTMENTS = "/v1/billing/meter_event_adjustments"


@pytest.fixture
def books(world: World, standin: StandinProcess, engine: Engine) -> Books:
    books = Books(world, standin, engine).open()
    books.customer()
    return books


def take_back(books: Books, units: int) -> None:
    with books.engine.begin() as connection:
        connection.execute(update(Rollup).values(units=Rollup.units - units))


def history(books: Books) -> list[tuple[str, int]]:
    return [(row.state, int(row.value)) for row in books.rows()]


def cancelled(books: Books) -> int:
    return sum(event["cancelled_at"] is not None for event in books.standin.inspect("events")["events"])


def assert_right(books: Books) -> None:
    books.owe()
    books.send()
    assert books.counted() == books.used()
    books.check()
    assert [
        check.name for check in verify(books.engine, books.world.redis) if check.name == "owed" if not check.holds
    ] == []


def test_hours_reported_after_an_end_that_we_heard_of_late_are_taken_back(books: Books) -> None:
    books.use(5)
    books.report_hours()
    with books.engine.begin() as connection:  # the subscription had ended before; what was used moved to another period
        ended = {"at": START - timedelta(minutes=1)}
        connection.execute(text("UPDATE stripe_subscriptions SET status = 'canceled', ended_at = :at"), ended)
    take_back(books, 5)

    books.report_hours()

    assert books.counted() == {}
    assert books.status().owed_hours == 0
    books.check()


class TestWithinADay:
    def test_the_row_is_cancelled_and_the_rest_sent_anew(self, books: Books) -> None:
        books.use(5)
        books.report_hours()
        take_back(books, 4)

        report = books.report_hours()

        assert (report.cancelled, report.accepted) == (1, 1)
        assert history(books) == [("withdrawn", 5), ("accepted", 1)]
        assert cancelled(books) == 1
        assert_right(books)

    def test_an_hour_without_usage_left_needs_the_cancel_alone(self, books: Books) -> None:
        books.use(5)
        books.report_hours()
        take_back(books, 5)
        books.report_hours()

        assert history(books) == [("withdrawn", 5)]
        assert books.counted() == {}
        assert_right(books)

    def test_of_several_rows_the_one_that_fits_is_cancelled(self, books: Books) -> None:
        for quantity in (5, 3, 4):
            books.use(quantity, time=to_micros(START))
            books.report_hours()
        take_back(books, 3)
        books.report_hours()

        assert history(books) == [("accepted", 5), ("withdrawn", 3), ("accepted", 4)]
        assert_right(books)

    def test_what_no_single_row_holds_becomes_a_signed_row(self, books: Books) -> None:
        for quantity in (5, 3):
            books.use(quantity, time=to_micros(START))
            books.report_hours()
        take_back(books, 7)
        books.report_hours()

        assert history(books) == [("accepted", 5), ("accepted", 3), ("accepted", -7)]
        assert_right(books)

    def test_usage_that_comes_while_a_row_is_being_cancelled_is_in_the_new_row(self, books: Books) -> None:
        books.use(5)
        books.report_hours()
        take_back(books, 2)
        books.owe()
        assert history(books) == [("cancelling", 5)]
        books.use(9, time=to_micros(START))
        assert books.owe() == 0  # looked at again when the cancel is done
        assert [
            check.name for check in verify(books.engine, books.world.redis) if check.name == "owed" and not check.holds
        ] == []

        books.send()

        assert history(books) == [("withdrawn", 5), ("accepted", 12)]
        assert_right(books)

    def test_a_signed_row_can_be_taken_back_in_turn(self, books: Books) -> None:
        books.use(5)
        books.report_hours()
        books.advance(hours=23)
        take_back(books, 4)
        books.report_hours()
        take_back(books, -2)
        books.report_hours()

        assert [value for _, value in history(books)] == [5, -4, 2]
        assert_right(books)


class TestLater:
    def test_after_a_day_a_signed_row_is_sent(self, books: Books) -> None:
        books.use(5)
        books.report_hours()
        books.advance(hours=23)
        take_back(books, 4)
        books.report_hours()

        assert history(books) == [("accepted", 5), ("accepted", -4)]
        assert cancelled(books) == 0
        assert_right(books)

    def test_after_the_periods_end_too_because_its_invoice_could_be_made_in_between(self, books: Books) -> None:
        end = books.world.periods()[0].ends_at
        books.advance(seconds=(end - START).total_seconds() - 1800)
        books.use(5)
        books.report_hours(minutes=45)
        take_back(books, 4)
        books.report_hours(minutes=5)

        assert history(books) == [("accepted", 5), ("accepted", -4)]
        assert_right(books)


class TestNeverTold:
    """Stripe must not be asked to take back what it never counted: its total would fall below what was used."""

    def test_a_row_that_was_not_sent_yet_is_replaced(self, books: Books) -> None:
        books.use(5)
        books.advance(hours=2)
        books.owe()
        take_back(books, 4)
        books.owe()
        books.send()

        assert history(books) == [("withdrawn", 5), ("accepted", 1)]
        assert cancelled(books) == 0
        assert_right(books)

    def test_a_refused_row_is_replaced(self, books: Books) -> None:
        refuse_one(books)
        take_back(books, 5)
        books.report_hours()

        assert history(books) == [("withdrawn", 5)]
        assert books.standin.inspect("events")["events"] == []
        assert_right(books)

    def test_what_was_written_off_is_balanced_by_a_row_that_is_so_too(self, books: Books) -> None:
        number = refuse_one(books)
        write_off(books.world.session, number, note="a gift", now=books.world.now, actor="op")
        books.world.session.commit()
        books.use(2, time=to_micros(START))
        books.report_hours()
        books.advance(hours=23)
        take_back(books, 6)
        books.report_hours()

        assert history(books) == [("written_off", 5), ("accepted", 2), ("accepted", -2), ("written_off", -4)]
        assert books.standin.total("api_call") == "0"
        books.check()


class TestFaults:
    @pytest.mark.parametrize("kind", ["drop_answer", "reset", "outage", "error_500", "rate_limit"])
    def test_a_cancel_without_an_answer_is_repeated(self, books: Books, kind: str) -> None:
        books.use(5)
        books.report_hours()
        take_back(books, 4)
        books.owe()
        books.standin.set("faults", kind=kind, path=ADJUSTMENTS, times=1)

        assert books.send().postponed == 1
        assert history(books) == [("cancelling", 5)]
        books.advance(minutes=1)
        books.send()

        assert history(books) == [("withdrawn", 5), ("accepted", 1)]
        assert_right(books)

    def test_a_cancel_that_is_refused_becomes_a_signed_row(self, books: Books) -> None:
        books.use(5)
        books.report_hours()
        forget_at_stripe(books)
        take_back(books, 4)
        books.report_hours()

        assert history(books) == [("accepted", 5), ("accepted", -4)]
        assert "No such meter event" in (books.rows()[0].fault or "")
        books.check()

    @pytest.mark.parametrize(("kind", "left"), [("drop_answer", [5, 1]), ("reset", [5, -4])])
    def test_a_refusal_after_an_unknown_outcome_is_looked_up(self, books: Books, kind: str, left: list[int]) -> None:
        books.use(5)
        books.report_hours()
        take_back(books, 4)
        books.owe()
        books.standin.set("faults", kind=kind, path=ADJUSTMENTS, times=1)
        books.send()
        forget_at_stripe(books)
        books.advance(minutes=1)

        books.send(summary_delay_seconds=60)
        assert [row.state for row in books.rows()] == ["doubtful"]
        books.advance(minutes=2)
        books.send(summary_delay_seconds=60)

        assert [value for _, value in history(books)] == left
        assert books.counted() == books.used()
        books.check()

    def test_a_cancel_that_was_never_tried_in_time_becomes_a_signed_row(self, books: Books) -> None:
        books.use(5)
        books.report_hours()
        take_back(books, 4)
        books.owe()
        books.advance(hours=23)
        books.send()

        assert history(books) == [("accepted", 5), ("accepted", -4)]
        assert_right(books)

    def test_a_cancel_in_doubt_for_a_day_is_looked_up(self, books: Books) -> None:
        books.use(5)
        books.report_hours()
        take_back(books, 4)
        books.owe()
        books.standin.set("faults", kind="drop_answer", path=ADJUSTMENTS, times=1)
        books.send()
        books.advance(hours=23)

        assert books.send().looked_up == 1
        assert history(books) == [("withdrawn", 5), ("accepted", 1)]
        assert_right(books)

    @pytest.mark.parametrize("place", ["stripe.before_cancel", "stripe.cancelled"])
    def test_a_sender_killed_around_the_cancel_leaves_the_books_right(self, books: Books, place: str) -> None:
        books.use(5)
        books.report_hours()
        take_back(books, 4)
        books.owe()

        assert books.sender_process(f"{place}:1") == -signal.SIGKILL
        books.advance(minutes=3)
        books.send()

        assert history(books) == [("withdrawn", 5), ("accepted", 1)]
        assert_right(books)


def refuse_one(books: Books) -> int:
    """A row of 5 that Stripe refused."""
    books.use(5)
    books.advance(hours=2)
    books.owe()
    with books.engine.begin() as connection:
        connection.execute(text("UPDATE stripe_reports SET event_name = 'nothing'"))
    books.send()
    with books.engine.begin() as connection:
        connection.execute(text("UPDATE stripe_reports SET event_name = 'api_call'"))
    (row,) = books.rows("parked")
    return row.id


def forget_at_stripe(books: Books) -> None:
    """From now on Stripe knows the events by no identifier that we could name."""
    with books.engine.begin() as connection:
        connection.execute(text("UPDATE stripe_reports SET identifier = identifier || '-gone'"))
