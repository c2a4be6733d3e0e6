"""A row whose fate is unknown for 23 hours is looked up in Stripe's summary, and counted once whatever became of it."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from metering.clock import to_micros
from metering.errors import Conflict
from metering.models import AuditEntry, Period
from metering.stripe_sync.decisions import retry, settle
from tests.factories.ledger import Books, arm, owed_rows
from tests.factories.standin import StandinProcess, make_meter
from tests.factories.standin import report as report_directly
from tests.factories.world import START, World

DELAY = 600.0


@pytest.fixture
def books(world: World, standin: StandinProcess, engine: Engine) -> Books:
    standin.set("delay", seconds=DELAY - 1)
    return Books(world, standin, engine).open()


def in_doubt(books: Books, kind: str, rows: int = 1) -> None:
    """`rows` sent for one hour without an answer, which is 23 hours ago now. `drop_answer`: each was counted."""
    books.customer()
    for number in range(rows):
        books.use(5 + number, time=to_micros(START + timedelta(minutes=number)))
        books.advance(hours=1 if number == 0 else 0, minutes=5)
        books.owe()
    for _ in range(rows):
        arm(books, kind)
        books.send()
        with books.engine.begin() as connection:  # nobody waits behind a row in doubt, here
            connection.execute(text("UPDATE stripe_reports SET state = 'parked' WHERE attempts > 0"))
    books.advance(hours=23)
    with books.engine.begin() as connection:
        connection.execute(text("UPDATE stripe_reports SET state = 'pending' WHERE state = 'parked'"))


@pytest.mark.parametrize(("fault", "states"), [("drop_answer", ["accepted"]), ("reset", ["withdrawn", "accepted"])])
def test_it_is_accepted_where_stripe_counts_it_and_else_replaced(books: Books, fault: str, states: list[str]) -> None:
    in_doubt(books, fault)

    report = books.send(summary_delay_seconds=DELAY)

    assert (report.looked_up, report.parked) == (1, 0)
    rows = books.rows()
    assert [row.state for row in rows] == states
    assert "Stripe's summary of 2026-11-10 12:00 UTC" in (rows[0].fault or "")
    assert len({row.identifier for row in rows}) == len(rows)
    assert books.counted() == books.used() != {}
    books.check()


@pytest.mark.parametrize("fault", ["drop_answer", "reset"])
def test_several_rows_of_one_hour_are_each_counted_once(books: Books, fault: str) -> None:
    in_doubt(books, fault, rows=3)

    books.send(summary_delay_seconds=DELAY)

    assert books.counted() == books.used()
    assert sum(books.counted().values()) == 18
    assert {row.state for row in books.rows()} <= {"accepted", "withdrawn"}
    books.check()


def test_only_what_has_settled_is_looked_up(books: Books) -> None:
    """The last try was a moment before the 23 hours were over: its event is not in the summary yet."""
    owed_rows(books, hours=2)
    arm(books, "reset")
    books.send()
    books.advance(hours=22, minutes=59)
    arm(books, "drop_answer")
    books.send()
    books.advance(minutes=2)

    assert books.send(summary_delay_seconds=DELAY).looked_up == 0
    assert [row.state for row in books.rows()] == ["doubtful", "pending"]  # and nobody passes it meanwhile
    books.advance(seconds=DELAY)
    report = books.send(summary_delay_seconds=DELAY)

    assert (report.looked_up, report.accepted) == (1, 1)
    assert books.counted() == books.used()


def test_another_row_of_the_hour_must_have_settled_too(books: Books) -> None:
    in_doubt(books, "drop_answer", rows=2)
    first, _ = books.rows()
    with books.engine.begin() as connection:
        connection.execute(
            text("UPDATE stripe_reports SET state = 'accepted', last_sent_at = :now, settled_at = :now WHERE id = :id"),
            {"id": first.id, "now": books.world.now},
        )

    assert books.send(summary_delay_seconds=DELAY).looked_up == 0
    books.advance(seconds=DELAY)
    assert books.send(summary_delay_seconds=DELAY).looked_up == 1
    assert books.counted() == books.used()


@pytest.mark.parametrize("fault", ["drop_answer", "reset"])
def test_both_periods_of_an_hour_are_in_its_summary(books: Books, fault: str) -> None:
    customer, session = books.customer(), books.world.session
    first, second = session.query(Period).filter_by(customer_id=customer.id).order_by(Period.starts_at)
    first.ends_at = START + timedelta(minutes=30)
    session.flush()
    second.starts_at = first.ends_at
    session.commit()
    books.world.send()
    books.use(3)
    books.advance(minutes=45)
    books.use(4)
    books.advance(hours=1)
    books.owe()
    books.send(limit=1)
    arm(books, fault)
    books.send()
    books.advance(hours=23)

    assert books.send(summary_delay_seconds=DELAY).looked_up == 1
    assert books.rows("parked") == []
    assert books.counted() == books.used()


def test_what_cannot_be_told_is_held_with_what_was_seen(books: Books) -> None:
    in_doubt(books, "drop_answer")
    (row,) = books.rows()
    client = books.standin.client()
    report_directly(client, row.stripe_customer_id, int(row.timestamp.timestamp()), "2")  # somebody else's
    books.advance(seconds=DELAY)

    report = books.send(summary_delay_seconds=DELAY)

    assert report.parked == 1
    (row,) = books.rows("parked")
    assert "says 7.0; it should say 0 without this row, 5 with it" in (row.fault or "")
    assert len(books.standin.inspect("events")["events"]) == 2


@pytest.mark.parametrize("counted", [True, False])
def test_the_operator_decides_then(books: Books, counted: bool) -> None:
    in_doubt(books, "drop_answer" if counted else "reset")
    (row,) = books.rows()
    report_directly(books.standin.client(), row.stripe_customer_id, int(row.timestamp.timestamp()), "2")
    books.advance(seconds=DELAY)
    books.send(summary_delay_seconds=DELAY)
    session, now = books.world.session, books.world.now

    with pytest.raises(Conflict, match="note"):
        settle(session, row.id, counted=counted, note=" ", now=now, actor="op")
    settle(session, row.id, counted=counted, note="seen at Stripe", now=now, actor="op")
    session.commit()
    books.send()

    assert [row.state for row in books.rows()] == (["accepted"] if counted else ["withdrawn", "accepted"])
    assert sum(books.counted().values()) == 7
    (entry,) = session.query(AuditEntry).all()
    assert entry.action == ("stripe.counted" if counted else "stripe.not_counted")
    books.check()


def test_retrying_a_held_row_looks_again_and_never_sends_it(books: Books) -> None:
    in_doubt(books, "drop_answer")
    with books.engine.begin() as connection:
        connection.execute(text("UPDATE stripe_reports SET state = 'parked'"))
    (row,) = books.rows()

    retry(books.world.session, row.id, now=books.world.now, actor="op")
    books.world.session.commit()

    assert books.send(summary_delay_seconds=DELAY).looked_up == 1
    assert len(books.standin.inspect("events")["events"]) == 1
    assert books.counted() == books.used()


def test_a_summary_that_cannot_be_had_leaves_the_row_in_doubt(books: Books) -> None:
    in_doubt(books, "drop_answer")
    books.standin.set("faults", kind="outage", method="GET")

    assert books.send(summary_delay_seconds=DELAY).postponed == 1
    assert [row.state for row in books.rows()] == ["doubtful"]
    books.standin.lift_faults()
    books.advance(minutes=10)
    assert books.send(summary_delay_seconds=DELAY).looked_up == 1
    assert books.counted() == books.used()


def test_a_meter_that_stripe_forgot_parks_the_row(books: Books) -> None:
    in_doubt(books, "drop_answer")
    make_meter(books.standin.client(), "another")
    with books.engine.begin() as connection:
        connection.execute(text("UPDATE stripe_meters SET stripe_id = 'mtr_gone'"))

    assert books.send(summary_delay_seconds=DELAY).parked == 1
    (row,) = books.rows("parked")
    assert "no summary" in (row.fault or "")
