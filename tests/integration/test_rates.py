"""Rates: GCRA beside the quotas, in one step with them, for customers and for each of their keys."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metering.accounts.users import add_member, create_user
from metering.catalog import Rate
from metering.clock import to_micros
from metering.embedded import Addresses
from metering.errors import LimitExceeded, RateLimited
from metering.ids import NewKey
from metering.intake.scripts import prefix
from metering.intake.values import Admission, Ask, IdempotencyKey, Replay
from metering.store.state import touch
from tests.factories.callers import ApiConsumer
from tests.factories.catalogs import with_rate
from tests.factories.hosts import host_app
from tests.factories.world import World

KEYED = IdempotencyKey(digest="d" * 32, fingerprint="f" * 32, window_ms=60_000)


def paced(world: World, plan: str = "free", **rates: object) -> None:
    """A customer, acme, whose plan has these rates."""
    world.catalog = with_rate(world.catalog, plan, **rates)
    world.customer(plan=plan)


def call(world: World, key: NewKey | None = None, reserve: dict[str, int] | None = None, **more: Any) -> Admission:
    """A call of acme; with `key`, made with that key."""
    who = {"key_digest": key.digest, "scope": "meter"} if key else {"customer": "acme"}
    admission = world.intake.reserve(
        Ask(reserve=reserve or {"api_call": 1}, **who, **more),
        rid=f"c{next(world.numbers)}",
        partition=world.intake.partition("acme"),
        now=world.now,
    )
    assert not isinstance(admission, Replay)
    return admission


def burst(world: World, key: NewKey | None = None) -> int:
    """How many calls come through until the first one is refused."""
    for count in range(10_000):
        try:
            call(world, key)
        except RateLimited:
            return count
    raise AssertionError("nothing is ever refused")


# -- exactly as fast as the rate ---------------------------------------------------------------------------------


class TokenBucket:
    """The same rule told another way, in exact fractions: a token each interval, at most a burst of them."""

    def __init__(self, rate: Rate) -> None:
        self._per_token, self._most = rate.interval_micros, rate.burst
        self.tokens, self._at = Fraction(rate.burst), 0

    def take(self, now: int) -> bool:
        self.tokens = min(Fraction(self._most), self.tokens + Fraction(now - self._at, self._per_token))
        self._at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    @property
    def wait(self) -> int:
        """Whole microseconds until there is a token."""
        return ceil((1 - self.tokens) * self._per_token)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    count=st.integers(1, 10_000),
    unit=st.sampled_from(["second", "minute", "hour"]),
    most=st.integers(1, 20),
    steps=st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 1), st.integers(0, 12)), max_size=12),
)
def test_calls_are_let_in_exactly_as_a_token_bucket_would(
    world: World, count: int, unit: str, most: int, steps: list[tuple[int, int, int]]
) -> None:
    """Each step waits some intervals, a microsecond more or less, and then makes some calls at once."""
    rate = Rate.model_validate({"rate": f"{count}/{unit}", "burst": most})
    world.catalog = with_rate(world.catalog, "enterprise", customer=rate)
    key = f"c{next(world.numbers)}"
    world.customer(key, plan="enterprise")
    bucket, start = TokenBucket(rate), world.now

    for intervals, off, calls in [(0, 0, most + 2), *steps]:
        world.now += timedelta(microseconds=max(0, intervals * rate.interval_micros + off))
        if world.now > start + timedelta(days=20):
            break
        for _ in range(calls):
            if bucket.take(to_micros(world.now)):
                (standing,) = world.reserve({"api_call": 1}, key).rates
                assert standing.remaining(to_micros(world.now)) == int(bucket.tokens)
            else:
                with pytest.raises(RateLimited) as refused:
                    world.reserve({"api_call": 1}, key)
                assert refused.value.retry_after * 1_000_000 == bucket.wait
    world.now = start


def test_the_wait_it_names_is_the_shortest_that_helps(world: World) -> None:
    paced(world, customer={"rate": "7/second", "burst": 2})
    assert burst(world) == 2

    with pytest.raises(RateLimited) as refused:
        call(world)
    micros = int(refused.value.retry_after * 1_000_000)

    assert micros == 142_858
    world.advance(microseconds=micros - 1)
    assert burst(world) == 0
    world.advance(microseconds=1)
    assert burst(world) == 1


def test_many_threads_at_one_moment_share_a_burst_exactly(world: World) -> None:
    paced(world, customer={"rate": "60/minute", "burst": 37})
    intake, now, partition = world.intake, world.now, world.intake.partition("acme")

    def ask(number: int) -> bool:
        try:
            intake.reserve(Ask({"api_call": 1}, customer="acme"), rid=f"t{number}", partition=partition, now=now)
        except RateLimited:
            return False
        return True

    with ThreadPoolExecutor(64) as pool:
        assert sum(pool.map(ask, range(300))) == 37
    assert world.held() == 37


# -- whose rate --------------------------------------------------------------------------------------------------


def test_each_key_has_a_rate_of_its_own_and_the_customer_one_over_all(world: World) -> None:
    paced(world, customer="5/minute", key="3/minute")
    first, second = (world.key(world.find("acme")) for _ in range(2))

    assert burst(world, first) == 3
    with pytest.raises(RateLimited) as by_key:
        call(world, first)
    assert burst(world, second) == 2
    with pytest.raises(RateLimited) as by_customer:
        call(world, second)

    assert (by_key.value.facts["which"], by_key.value.facts["rate"]) == ("key", "3/minute")
    assert (by_customer.value.facts["which"], by_customer.value.facts["burst"]) == ("customer", 5)


def test_a_call_that_one_rate_refuses_takes_nothing_of_the_other(world: World) -> None:
    paced(world, customer="5/minute", key="1/minute")
    first, second, third = (world.key(world.find("acme")) for _ in range(3))
    assert burst(world, first) == 1
    for _ in range(20):
        with pytest.raises(RateLimited):
            call(world, first)

    assert [burst(world, second), burst(world, third), burst(world)] == [1, 1, 2]


def test_customers_do_not_share_a_rate(world: World) -> None:
    paced(world, customer="2/minute")
    world.customer("umbrella")
    assert burst(world) == 2

    assert world.reserve({"api_call": 1}, "umbrella").rates[0].remaining(to_micros(world.now)) == 1


def test_calls_without_a_key_know_no_rate_of_keys(world: World) -> None:
    paced(world, key="1/minute")

    assert [call(world).rates for _ in range(3)] == [(), (), ()]


# -- all or nothing with the quotas ------------------------------------------------------------------------------


def test_a_call_that_a_quota_refuses_takes_nothing_of_the_rate(world: World) -> None:
    paced(world, customer="2/minute")
    for _ in range(20):
        with pytest.raises(LimitExceeded) as refused:
            call(world, reserve={"api_call": 1001})

    assert refused.value.facts["rates"][0].remaining(to_micros(world.now)) == 2
    assert burst(world) == 2


def test_a_call_that_a_rate_refuses_holds_nothing(world: World) -> None:
    paced(world, customer="2/minute")
    assert burst(world) == 2

    for _ in range(20):
        with pytest.raises(RateLimited):
            call(world, reserve={"api_call": 1, "tokens": 50})

    assert (world.held(), world.held("tokens")) == (2, 0)


def test_a_replay_costs_nothing(world: World) -> None:
    paced(world, customer="2/minute")
    partition = world.intake.partition("acme")
    ask = Ask({"api_call": 1}, customer="acme", idempotency=KEYED)
    admission = world.intake.reserve(ask, rid="one", partition=partition, now=world.now)
    assert isinstance(admission, Admission)
    world.intake.settle(admission, [], now=world.now, answer=b"stored")

    for number in range(20):
        again = world.intake.reserve(ask, rid=f"again{number}", partition=partition, now=world.now)
        assert again == Replay("acme", b"stored")

    assert burst(world) == 1


def test_quota_that_is_held_for_something_else_is_no_call(world: World) -> None:
    paced(world, "pro", customer="1/minute")
    users = [create_user(world.session, email=f"{name}@acme.example", password="a long password") for name in "abc"]
    for user in users:
        add_member(world.session, world.intake, world.catalog, world.find("acme"), user, "member", now=world.now)
    world.session.commit()

    assert burst(world) == 1


# -- what is known of it -----------------------------------------------------------------------------------------


def test_the_next_periods_rate_takes_effect_at_its_start(world: World) -> None:
    paced(world, "free", customer="2/hour")
    world.catalog = with_rate(world.catalog, "pro", customer="9/hour")
    world.periods()[1].plan = "pro"
    touch(world.session, [world.find("acme").id])
    world.session.commit()
    world.send()
    world.advance(days=20, hours=11, minutes=59, seconds=59)
    assert burst(world) == 2

    world.advance(seconds=1)

    assert burst(world) == 0, "the calls of a second ago still count"
    world.advance(seconds=400)
    assert burst(world) == 1
    world.advance(hours=1)
    assert burst(world) == 9


def test_a_slower_rate_before_locks_nobody_out(world: World) -> None:
    paced(world, customer={"rate": "1/hour", "burst": 5})
    assert burst(world) == 5
    world.catalog = with_rate(world.catalog, "free", customer="60/minute")
    touch(world.session, [world.find("acme").id])
    world.session.commit()
    world.send()

    world.advance(seconds=1)

    assert burst(world) == 1


def test_a_rate_is_neither_durable_nor_for_ever(world: World) -> None:
    paced(world, customer="60/minute", key="60/minute")
    key = world.key(world.find("acme"))
    before = world.redis.info("persistence")["aof_current_size"]
    call(world, key)
    names = list(world.redis.scan_iter(prefix(world.intake.partition("acme")) + "t:*"))

    assert len(names) == 2
    assert all(60_000 < world.redis.pttl(name) <= 61_001 for name in names)
    assert world.redis.info("persistence")["aof_current_size"] == before


def test_where_a_customer_stands_shows_its_rates_and_takes_nothing(world: World) -> None:
    paced(world, customer="3/minute", key="2/minute")
    key = world.key(world.find("acme"))
    admission = call(world, key)
    now = to_micros(world.now)

    for _ in range(3):
        standing = world.intake.standing("acme", ["api_call"], now=world.now, key_id=admission.key_id)

    assert [(rate.which, rate.remaining(now)) for rate in standing.rates] == [("customer", 2), ("key", 1)]
    assert standing.rates == admission.rates
    assert [rate.which for rate in world.intake.standing("acme", [], now=world.now).rates] == ["customer"]


# -- over HTTP ---------------------------------------------------------------------------------------------------


@pytest.fixture
def host(world: World, servers: Addresses, tmp_path: Path) -> Iterator[Flask]:
    with host_app(world, tmp_path, database_url=servers.database_url, redis_url=servers.redis_url) as app:
        yield app


def acme(host: Flask, world: World, **rates: object) -> ApiConsumer:
    paced(world, **rates)
    return ApiConsumer(host, world.key(world.find("acme")).secret, "acme")


def test_a_refusal_says_which_rate_and_when_to_come_again(host: Flask, world: World) -> None:
    caller = acme(host, world, customer="600/hour", key={"rate": "30/minute", "burst": 1})
    assert caller.get("/call").status_code == 200
    world.advance(seconds=0.5)

    answer = caller.get("/call")

    assert (answer.status_code, answer.content_type) == (429, "application/problem+json")
    body = answer.json
    assert (body["type"], body["title"]) == ("/problems/rate-limited", "Too many calls at once")
    facts = {name: body[name] for name in ("which", "rate", "burst", "retry_after")}
    assert facts == {"which": "key", "rate": "30/minute", "burst": 1, "retry_after": 1.5}
    assert not {"standings", "rates", "period"} & set(body)
    assert answer.headers["Retry-After"] == "2"
    assert '"key-rate";r=0;t=2' in answer.headers["RateLimit"]
    assert answer.headers["X-RateLimit-Remaining"] == "0"
    assert (world.used(), world.held(), host.extensions["runs"]["count"]) == (1, 0, 1)


def test_a_client_that_obeys_is_never_hung_for_more_than_a_minute(host: Flask, world: World) -> None:
    caller = acme(host, world, customer="1/hour")
    caller.get("/call")

    answer = caller.get("/call")

    assert "Retry-After" not in answer.headers
    assert answer.json["retry_after"] == 3600
    world.advance(minutes=59)
    assert caller.get("/call").headers["Retry-After"] == "60"


def test_rates_stand_in_the_headers_of_every_answer(host: Flask, world: World) -> None:
    caller = acme(host, world, customer="50/second")

    answers = [
        caller.get("/call"),
        caller.get("/status/500"),
        caller.post("/items/one", key="k1"),
        caller.post("/items/one", key="k1"),
        caller.post("/units", json={"units": 5000}),
        caller.get("/stream"),
    ]

    assert [answer.status_code for answer in answers] == [200, 500, 200, 200, 429, 200]
    assert {answer.headers["RateLimit-Policy"].split(", ")[-1] for answer in answers} == {'"customer-rate";q=50;w=1'}
    left = [answer.headers["RateLimit"].split(", ")[-1].split(";")[1] for answer in answers]
    assert left == ["r=49", "r=48", "r=47", "r=47", "r=47", "r=46"], "replays and refusals cost nothing"
