"""Hundreds of steps in an order that a seed decides: customers buy, change, cancel and fail to pay at the stand-in, its
webhooks come late, shuffled, twice or not at all until they are sent again, and their processing is killed; meanwhile
usage is reported. In the end plans, statuses, periods, invoices and totals are the same on both sides.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import stripe
from flask import Flask
from sqlalchemy import Engine

from metering.billing.periods import customers_without_next, ensure_periods
from metering.clock import to_micros
from metering.embedded import Addresses
from metering.store.state import touch
from metering.store.verify import verify
from metering.stripe_sync.push.run import look, push
from metering.stripe_sync.verify import verify_stripe
from tests.conftest import running_app
from tests.factories.ledger import METER_EVENTS, Books
from tests.factories.shop import Served
from tests.factories.standin import KEY, StandinProcess
from tests.factories.webhooks import SECRET, THIN_SECRET
from tests.factories.world import PARTITIONS, World
from tests.faults import counts
from tests.faults.campaign import FAULTS, at_stripe, decide, ours, struck, told, too_few
from tests.faults.deliveries import PLACES, Deliveries
from tests.faults.subscribers import Subscribers

STEPS = 300
CUSTOMERS, METERS = ("acme", "bolt", "coil"), ("api_call", "tokens")
GRACE_SECONDS = 2700
DISORDERS = (
    "webhooks shuffled",
    "webhooks twice",
    "webhook answers dropped",
    "webhooks lost",
    "old webhooks again",
    "processing failed",
    *(f"killed at {place}" for place in PLACES),
)
DEEDS = (
    "bought",
    "bought on trial",
    "unpaused",
    "plan changed",
    "cancelled now",
    "cancelled at period end",
    "resumed",
    "payment fails",
    "payment succeeds",
    "collection paused",
    "collection resumed",
    "met past due",
    "past a period's end",
    "faults while sending",
)
LEAST_DEEDS = 1


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[StandinProcess]:
    process = StandinProcess(tmp_path / "standin")
    yield process
    process.kill()


@pytest.fixture
def settings(servers: Addresses, standin: StandinProcess, tmp_path: Path) -> dict[str, Any]:
    return {
        "env": "development",
        "home": tmp_path,
        "partitions": PARTITIONS,
        "database_url": servers.database_url,
        "redis_url": servers.redis_url,
        "stripe": "standin",
        "stripe_api_key": KEY,
        "stripe_api_base": standin.url,
        "stripe_webhook_secret": SECRET,
        "stripe_webhook_thin_secret": THIN_SECRET,
    }


@pytest.fixture
def app(world: World, settings: dict[str, Any], tmp_path: Path) -> Iterator[Flask]:
    more = {name: value for name, value in settings.items() if name not in ("home",)}
    with running_app(world, tmp_path, **more) as app:
        yield app


@pytest.fixture
def served(app: Flask) -> Iterator[Served]:
    served = Served(app)
    yield served
    served.close()


@dataclass
class Campaign:
    books: Books
    subscribers: Subscribers
    deliveries: Deliveries
    random: random.Random
    done: Counter[str] = field(default_factory=Counter)

    def run(self, steps: int) -> None:
        webhooks = self.deliveries
        choices: list[tuple[Callable[[], None], int]] = [
            (self.use, 20),
            (self.use_late, 8),
            (self.report, 12),
            (self.fault, 8),
            (self.pass_hours, 16),
            (self.pass_days, 10),
            (self.end_period, 10),
            (self.fail_to_pay, 10),
            (self.subscribe, 90),
            (webhooks.shuffled, 14),
            (webhooks.twice, 12),
            (webhooks.answers_dropped, 20),
            (webhooks.lost, 20),
            (webhooks.again, 14),
            (webhooks.process, 8),
            (webhooks.process_in_outage, 30),
            (webhooks.process_and_die, 54),
        ]
        names, weights = [name for name, _ in choices], [weight for _, weight in choices]
        for number in count():
            if number >= steps and not self.lacking():
                break
            assert number < 2 * steps, self.lacking()
            self.random.choices(names, weights)[0]()

    def lacking(self) -> dict[str, int]:
        """What came too seldom so far."""
        disorders = too_few(Counter({name: self.done[name] for name in DISORDERS}))
        return disorders | {name: self.done[name] for name in DEEDS if self.done[name] < LEAST_DEEDS}

    def use(self, ago: timedelta = timedelta(0)) -> None:
        self.done["late usage" if ago else "usage"] += 1
        world = self.books.world
        for customer in CUSTOMERS:
            meter, quantity = self.random.choice(METERS), self.random.randint(1, 9)
            world.record(world.event(customer, meter, quantity, time=to_micros(world.now - ago)))
        world.drain()

    def use_late(self) -> None:
        self.use(timedelta(minutes=self.random.randint(10, 600)))

    def report(self) -> None:
        self.done["reports"] += 1
        self.books.owe()
        self.books.send(parallel=self.random.choice((1, 3)))

    def fault(self) -> None:
        self.use(timedelta(minutes=self.random.randint(60, 200)))
        self.books.owe()
        name = self.random.choice(list(FAULTS))
        self.books.standin.set("faults", path=METER_EVENTS, times=self.random.randint(1, 3), **FAULTS[name])
        before = struck(self.books)
        self.books.send()
        self.done["faults while sending"] += struck(self.books) < before
        self.books.standin.lift_faults()

    def pass_hours(self) -> None:
        self.done["hours"] += 1
        self.advance(seconds=self.random.randint(1200, 9000))

    def pass_days(self) -> None:
        """Long enough for a payment to be tried again."""
        self.done["days"] += 1
        self.report()
        self.advance(seconds=self.random.randint(1, 4) * 86_400 + self.random.randint(0, 7200))

    def end_period(self) -> None:
        """The period that ends first ends, with luck with its grace."""
        self.done["past a period's end"] += 1
        self.report()
        rest = self.subscribers.next_end() - self.books.world.now
        self.advance(seconds=max(1, rest.total_seconds() + self.random.choice((-600, 0, 1, 30, 3000, 5000))))

    def fail_to_pay(self) -> None:
        """A period ends, and nobody pays for the next one until it is asked again days later."""
        self.done["periods unpaid"] += 1
        for key in CUSTOMERS:
            self.subscribers.pays(key, "fail")
        self.report()
        rest = self.subscribers.next_end() - self.books.world.now
        self.advance(seconds=max(1, rest.total_seconds() + 3700))
        self.subscribers.pays(self.random.choice(CUSTOMERS), "")

    def subscribe(self) -> None:
        """The deed that came least often so far, of those that a customer can do now."""
        key = self.random.choice(CUSTOMERS)
        one = self.subscribers.running(key)
        deeds = self.bought_deeds(key, one) if one else {"bought": lambda: self.subscribers.buy(key)}
        if one is None:
            deeds["bought on trial"] = lambda: self.subscribers.buy(key, trial_pauses=True)
        name = min(deeds, key=lambda name: self.done[name])
        self.done[name] += 1
        deeds[name]()
        self.subscribers.look(key)

    def bought_deeds(self, key: str, one: stripe.Subscription) -> dict[str, Callable[[], None]]:
        at = self.subscribers
        if one.status == "paused":
            return {"unpaused": lambda: at.unpause(key, one), "cancelled now": lambda: at.cancel_now(one)}
        deeds: dict[str, Callable[[], None]] = {
            "cancelled now": lambda: at.cancel_now(one),
            "plan changed": lambda: at.change(one),
        }
        if one.status != "trialing":
            deeds["payment fails"] = lambda: at.pays(key, "fail")
            deeds["payment succeeds"] = lambda: at.pays(key, "")
        if one.cancel_at_period_end:
            deeds["resumed"] = lambda: at.update(one, cancel_at_period_end=False)
        else:
            deeds["cancelled at period end"] = lambda: at.update(one, cancel_at_period_end=True)
        if one.pause_collection:
            deeds["collection resumed"] = lambda: at.update(one, pause_collection="")
        else:
            deeds["collection paused"] = lambda: at.update(one, pause_collection={"behavior": "void"})
        return deeds

    def advance(self, **delta: float) -> None:
        """A period is closed when all is in that came before: what is closed stays as it is."""
        self.subscribers.advance(**delta)
        for key in CUSTOMERS:
            one = self.subscribers.running(key)
            self.done["met past due"] += one is not None and one.status == "past_due"
        world = self.books.world
        self.make_periods()
        last = world.now - timedelta(seconds=GRACE_SECONDS)
        if any(one.ends_at <= last and one.closed_at is None for key in CUSTOMERS for one in world.periods(key)):
            self.catch_up()
        world.close_periods(grace_seconds=GRACE_SECONDS)

    def make_periods(self) -> None:
        """What the worker does every minute."""
        world = self.books.world
        lacking = customers_without_next(world.session, world.now)
        touch(world.session, ensure_periods(world.session, lacking, world.now))
        world.session.commit()
        world.send()

    def catch_up(self) -> None:
        """All deliveries come in, and all are processed."""
        for _ in range(24):
            self.deliveries.deliver(self.deliveries.pending())
            self.deliveries.process()
            if not (self.deliveries.waiting() or self.deliveries.pending()):
                return
            self.subscribers.advance(minutes=7)
        raise AssertionError([(one.type, one.reason, one.attempts) for one in self.deliveries.waiting()])

    def finish(self) -> None:
        self.catch_up()
        for _ in range(5):
            self.advance(hours=3)
            self.catch_up()
            self.report()
            decide(self.books)
        assert {row.state for row in self.books.rows()} <= {"accepted", "withdrawn", "written_off"}
        assert self.deliveries.given_up() == 0

    def subscribed(self) -> dict[tuple[str, str, int], Any]:
        """What our totals are of periods that began under a subscription."""
        starts = {one.id: one.starts_at for key in CUSTOMERS for one in self.books.world.periods(key)}
        return {
            (key, meter, period): units
            for (key, meter, period), units in ours(self.books).items()
            if self.subscribers.subscribed(key, starts[period])
        }


@pytest.mark.parametrize("seed", [1])
def test_both_sides_are_the_same_whatever_came_in_between(
    seed: int,
    world: World,
    standin: StandinProcess,
    engine: Engine,
    app: Flask,
    served: Served,
    settings: dict[str, Any],
    record_property: Any,
) -> None:
    chance, runtime = random.Random(seed), app.extensions["metering"].runtime
    books = Books(world, standin, engine)
    push(runtime, look(runtime), actor="test")
    deliveries = Deliveries(world, standin, runtime, settings, served.url, chance, Counter()).open()
    campaign = Campaign(books, Subscribers(books, chance, CUSTOMERS).open(), deliveries, chance, deliveries.done)

    campaign.run(STEPS)
    campaign.finish()

    record_property(counts.KILLS, f"Subscriptions, seed {seed}: {STEPS} steps: {told(campaign.done)}")
    print(told(campaign.done))
    for key in CUSTOMERS:
        campaign.subscribers.check(key)
    assert at_stripe(books, CUSTOMERS) == campaign.subscribed()
    books.check()
    checks = [*verify(engine, world.redis), verify_stripe(runtime)]
    assert [(check.name, check.differences[:3], check.fault) for check in checks if check and not check.holds] == []
    assert campaign.lacking() == {}
