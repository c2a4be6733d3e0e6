"""How fast Stripe is called, by how many at once, and what stops everything."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine

from metering.stripe_sync.sender import ENOUGH
from metering.stripe_sync.throttle import LONGEST_WAIT_SECONDS, RATES, Jitter, Kind, SharedThrottle
from tests.factories.ledger import METER_EVENTS, Books, arm, owed_rows
from tests.factories.standin import StandinProcess
from tests.factories.world import World


@pytest.fixture
def books(world: World, standin: StandinProcess, engine: Engine) -> Books:
    return Books(world, standin, engine).open()


class TestBucket:
    def test_eight_workers_together_stay_below_the_rate(self, redis: Redis) -> None:
        """What they get in the time that passes on Redis' own clock is no more than the bucket and its refill."""
        rate, together = 200.0, threading.Barrier(8)
        throttle = SharedThrottle(redis, "test:acct_1", {"events": rate})

        def grab(_: int) -> int:
            together.wait(30)
            return sum(throttle.wait_seconds("events") == 0 for _ in range(100))

        before = clock(redis)
        with ThreadPoolExecutor(8) as pool:
            taken = sum(pool.map(grab, range(8)))
        passed = clock(redis) - before

        assert 20 <= taken <= 20 + rate * passed + 1

    def test_one_that_is_empty_says_how_long(self, redis: Redis) -> None:
        slept: list[float] = []
        throttle = SharedThrottle(redis, "test:acct_1", {"events": 1.0}, sleep=slept.append)

        assert throttle.take("events")
        assert 0.5 < throttle.wait_seconds("events") <= 1.0
        assert not throttle.take("events")  # this test's sleep takes no time, so nothing came back
        assert sum(slept) <= LONGEST_WAIT_SECONDS

    def test_accounts_and_kinds_of_calls_have_buckets_of_their_own(self, redis: Redis) -> None:
        slow: dict[Kind, float] = {"events": 0.1, "calls": 0.1}
        one, other = SharedThrottle(redis, "test:acct_1", slow), SharedThrottle(redis, "test:acct_2", slow)

        assert [one.wait_seconds("events") > 0 for _ in range(2)] == [False, True]
        assert one.wait_seconds("calls") == 0
        assert other.wait_seconds("events") == 0

    def test_stripes_limits_are_never_reached(self) -> None:
        assert sum(RATES["test"].values()) + 2 <= 25
        assert 1.1 * RATES["live"]["events"] < 1000
        assert 1.1 * RATES["live"]["calls"] < 100

    def test_a_back_off_holds_up_everybody_and_grows(self, redis: Redis) -> None:
        throttle, other = SharedThrottle(redis, "live:acct_1"), SharedThrottle(redis, "live:acct_1")

        throttle.back_off(lambda: 1.0)
        first = other.wait_seconds("events")
        other.back_off(lambda: 1.0)

        assert 4 < first <= 5
        assert 9 < throttle.wait_seconds("calls") <= 10
        assert not throttle.take("events")


class Turns:
    """A throttle that gives so many turns, and remembers who asked for less."""

    def __init__(self, turns: int) -> None:
        self.turns, self.backed_off = turns, 0

    def take(self, kind: Kind) -> bool:
        self.turns -= 1
        return self.turns >= 0

    def back_off(self, jitter: Jitter) -> None:
        self.backed_off += 1


class TestSending:
    def test_a_run_ends_where_the_rate_does(self, books: Books) -> None:
        owed_rows(books, customers=3)

        report = books.send(throttle=Turns(2))

        assert (report.accepted, report.stopped) == (2, ENOUGH)
        assert [row.attempts for row in books.rows("pending")] == [0]

    def test_without_redis_nothing_is_sent_and_nothing_is_lost(self, books: Books) -> None:
        class Away(Turns):
            def take(self, kind: Kind) -> bool:
                raise RedisError("gone")

        owed_rows(books)
        assert "gone" in (books.send(throttle=Away(0)).stopped or "")
        assert books.send().accepted == 1

    @pytest.mark.parametrize("reason", ["global-rate", "endpoint-rate", "global-concurrency", "endpoint-concurrency"])
    def test_a_429_for_all_ends_the_run_and_holds_up_everybody(self, books: Books, reason: str) -> None:
        owed_rows(books, customers=3)
        arm(books, "rate_limit", reason=reason)
        throttle = Turns(100)

        report = books.send(throttle=throttle)

        assert (report.accepted, report.postponed, throttle.backed_off) == (0, 1, 1)
        assert reason in (report.stopped or "")
        assert sorted(row.attempts for row in books.rows()) == [0, 0, 1]
        books.advance(minutes=1)
        assert books.send().accepted == 3
        assert books.counted() == books.used()

    def test_a_429_for_one_object_postpones_one_row(self, books: Books) -> None:
        owed_rows(books, customers=3)
        arm(books, "rate_limit", reason="resource-specific")
        throttle = Turns(100)

        report = books.send(throttle=throttle)

        assert (report.accepted, report.postponed, report.stopped, throttle.backed_off) == (2, 1, None, 0)

    def test_several_are_sent_at_once_but_one_of_each_customer_and_meter(self, books: Books) -> None:
        """The stand-in has four requests wait at once; a fifth would be of a queue whose head waits."""
        owed_rows(books, customers=4, hours=3)
        books.standin.set("faults", kind="slow", path=METER_EVENTS, seconds=1.0, times=4)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(books.send, parallel=8)
            books.standin.wait_for_faults_to_strike()
            under_way = [row.timestamp for row in books.rows("pending") if row.attempts]
            received = len(books.standin.inspect("events")["events"])
            report = running.result(60)

        assert (len(under_way), received) == (4, 0)
        assert report.accepted == 12
        events = books.standin.inspect("events")["events"]
        for name in {event["customer"] for event in events}:
            times = [event["timestamp"] for event in events if event["customer"] == name]
            assert times == sorted(times)
        assert books.counted() == books.used()

    def test_rows_of_a_period_that_is_over_go_first(self, books: Books) -> None:
        owed_rows(books, customers=2)
        late = books.world.find("c1")
        with books.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE periods SET ends_at = starts_at + interval '9 days 13 hours' "
                f"WHERE customer_id = {late.id} AND starts_at = (SELECT min(starts_at) FROM periods)"
            )

        books.send(limit=1)

        assert [row.state for row in books.rows()] == ["pending", "accepted"]


def clock(redis: Redis) -> float:
    seconds, micros = redis.time()  # type: ignore[misc]
    return float(seconds) + float(micros) / 1e6
