"""Whatever fails on the way to Stripe, each row is counted once there, and what can't be sent is seen."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from metering.stripe_sync.claims import TOO_OLD
from metering.stripe_sync.gateway import connect
from metering.stripe_sync.throttle import MAX_DELAY_SECONDS, delay_seconds
from tests.factories.ledger import METER_EVENTS, Books, arm, owed_rows
from tests.factories.standin import StandinProcess
from tests.factories.world import START, World


@pytest.fixture
def books(world: World, standin: StandinProcess, engine: Engine) -> Books:
    return Books(world, standin, engine).open()


class TestFaults:
    def test_a_dropped_answer_is_resent_under_the_same_identifier_and_counted_once(self, books: Books) -> None:
        owed_rows(books)
        arm(books, "drop_answer")

        first = books.send()
        (row,) = books.rows("pending")
        assert (first.accepted, first.postponed, row.attempts, row.first_sent_at) == (0, 1, 1, books.world.now)
        assert books.send().accepted == 0  # not due yet
        books.advance(minutes=1)

        assert books.send().accepted == 1
        assert len(books.standin.inspect("events")["events"]) == 1
        assert books.counted() == books.used()

    def test_the_client_itself_tries_again_what_the_network_lost(self, books: Books) -> None:
        owed_rows(books)
        arm(books, "reset", times=2)

        assert books.send(books.gateway(retries=2)).accepted == 1
        assert books.counted() == books.used()

    @pytest.mark.parametrize(
        "fault",
        [
            {"kind": "error_500"},
            {"kind": "error_500", "when": "after"},
            {"kind": "reset"},
            {"kind": "drop_answer"},
            {"kind": "outage"},
        ],
        ids=lambda fault: "-".join(fault.values()),
    )
    def test_rows_wait_in_order_and_arrive_afterwards(self, books: Books, fault: dict[str, str]) -> None:
        owed_rows(books, customers=2, hours=3)
        books.standin.set("faults", path=METER_EVENTS, times=None, **fault)

        report = books.send()
        assert (report.accepted, report.postponed) == (0, 2)
        assert [row.attempts for row in books.rows("pending")] == [1, 1, 0, 0, 0, 0]  # only the heads were tried
        assert all(row.fault for row in books.rows() if row.attempts)
        books.standin.lift_faults()
        books.advance(minutes=1)

        assert books.send().accepted == 6
        assert books.counted() == books.used()
        received = books.standin.inspect("events")["events"]
        for name in {event["customer"] for event in received}:
            times = [event["timestamp"] for event in received if event["customer"] == name]
            assert times == sorted(times)
        assert len(received) == 6

    def test_an_outage_ends_the_run_and_leaves_the_others_untried(self, books: Books) -> None:
        owed_rows(books, customers=5)
        arm(books, "outage")

        report = books.send()

        assert (report.postponed, report.needs_operator) == (3, False)
        assert "unavailable" in (report.stopped or "")
        assert sorted(row.attempts for row in books.rows("pending")) == [0, 0, 1, 1, 1]

    def test_a_stand_in_that_is_down_altogether_loses_nothing(self, books: Books) -> None:
        owed_rows(books)
        books.standin.kill()
        assert books.send().postponed == 1
        books.standin.start()
        books.tell_time()
        books.advance(minutes=1)

        assert books.send().accepted == 1
        assert books.counted() == books.used()

    def test_a_refusal_parks_one_row_and_the_others_go_on(self, books: Books) -> None:
        owed_rows(books, customers=3, hours=2)
        bad = books.rows()[0]
        with books.engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE stripe_reports SET event_name = 'nothing' WHERE id = {bad.id}")

        report = books.send()

        assert (report.accepted, report.parked, report.stopped) == (5, 1, None)
        (parked,) = books.rows("parked")
        assert (parked.id, parked.first_sent_at) == (bad.id, None)
        assert "No active meter found" in (parked.fault or "")
        assert books.status().parked == 1
        books.check()

    def test_a_key_that_is_refused_stops_everything_and_keeps_the_rows(self, books: Books) -> None:
        owed_rows(books, customers=3)
        wrong = connect("sk_wrong_key_123456", standin=True, api_base=books.standin.url, network_retries=0)

        report = books.send(wrong)

        assert report.needs_operator
        assert "Invalid API Key" in (report.stopped or "")
        assert "sk_wrong_key_123456" not in (report.stopped or "")
        assert len(books.rows("pending")) == 3
        assert [row.first_sent_at for row in books.rows()] == [None] * 3
        books.advance(hours=30)  # a weekend with a wrong key leaves nothing in doubt
        assert books.send().accepted == 3
        assert books.counted() == books.used()


class TestAtOnce:
    def test_eight_senders_at_once_count_each_row_once(self, books: Books) -> None:
        owed_rows(books, customers=6, hours=3)
        together = threading.Barrier(8)

        def run(_: int) -> int:
            together.wait(30)
            return books.send().accepted

        with ThreadPoolExecutor(8) as pool:
            accepted = sum(pool.map(run, range(8)))
        accepted += books.send().accepted

        assert accepted == 18
        assert {row.attempts for row in books.rows()} == {1}
        assert books.counted() == books.used()

    def test_a_row_that_is_being_sent_is_nobody_elses_and_holds_its_queue(self, books: Books) -> None:
        owed_rows(books, customers=1, hours=2)
        arm(books, "slow", seconds=1.0)
        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(books.send, limit=1)
            books.standin.wait_for_faults_to_strike()
            assert books.send().accepted == 0
            assert slow.result(30).accepted == 1

        assert books.send().accepted == 1
        assert books.counted() == books.used()


class TestKills:
    @pytest.mark.parametrize(("place", "arrived"), [("stripe.accepted", 1), ("stripe.before_send", 0)])
    def test_a_sender_killed_around_the_call_leaves_each_row_counted_once(
        self, books: Books, place: str, arrived: int
    ) -> None:
        owed_rows(books, customers=2)

        assert books.sender_process(f"{place}:2") == -signal.SIGKILL
        assert len(books.standin.inspect("events")["events"]) == 1 + arrived
        assert len(books.rows("accepted")) == 1

        assert books.sender_process() == 0  # the claim is leased: nothing is due yet
        assert len(books.rows("accepted")) == 1
        books.advance(minutes=3)
        assert books.sender_process() == 0
        assert len(books.rows("accepted")) == 2
        assert len(books.standin.inspect("events")["events"]) == 2
        assert books.counted() == books.used()


class TestDeadlines:
    def test_just_before_that_it_is_sent_again(self, books: Books) -> None:
        owed_rows(books)
        arm(books, "drop_answer")
        books.send()
        books.advance(hours=22, minutes=59)

        assert books.send().accepted == 1
        assert books.counted() == books.used()

    def test_a_row_never_tried_is_sent_for_35_days_and_parked_afterwards(self, books: Books) -> None:
        owed_rows(books, hours=2)
        books.advance(seconds=(START + timedelta(days=35) - books.world.now).total_seconds() + 60)

        report = books.send()

        assert (report.accepted, report.parked) == (1, 1)
        (row,) = books.rows("parked")
        assert (row.timestamp, row.fault) == (START, TOO_OLD)

    def test_delays_double_with_jitter_up_to_a_bound(self) -> None:
        assert [delay_seconds(attempt, lambda: 1.0) for attempt in (1, 2, 3)] == [5, 10, 20]
        assert delay_seconds(1, lambda: 0.0) == 2.5
        assert delay_seconds(10_000, lambda: 1.0) == MAX_DELAY_SECONDS
