"""Hundreds of steps in an order that a seed decides, and more until each has come often enough: usage, late usage,
usage taken back, every fault of Stripe, senders killed at every named point, the clock moved past a day and past the
ends of periods. In the end Stripe's totals, added up here from the events that the stand-in received, are ours, for
each customer, meter and period.
"""

import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, delete

from metering.clock import to_micros
from metering.models import Period
from metering.store.verify import verify
from metering.store.void import void
from tests.factories.ledger import METER_EVENTS, Books
from tests.factories.standin import StandinProcess
from tests.factories.world import START, World
from tests.faults import counts
from tests.faults.campaign import FAULTS, LEAST, at_stripe, decide, ours, struck, told, too_few

STEPS = 500
CUSTOMERS, METERS = ("acme", "bolt", "coil"), ("api_call", "tokens")
PERIOD = timedelta(days=2, hours=5, minutes=20)
DELAY = 600.0
ADJUSTMENTS = "/v1/billing/meter_event_adjustments"
CANCELS = ("stripe.before_cancel", "stripe.cancelled")
PLACES = ("stripe.before_send", "stripe.accepted", *CANCELS)


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[StandinProcess]:
    process = StandinProcess(tmp_path / "standin")
    yield process
    process.kill()


@pytest.fixture
def books(world: World, standin: StandinProcess, engine: Engine) -> Books:
    standin.set("delay", seconds=DELAY - 60)
    books = Books(world, standin, engine).open()
    for number, key in enumerate(CUSTOMERS):
        short_periods(books, key, timedelta(minutes=17 * number))
    return books


def short_periods(books: Books, key: str, offset: timedelta) -> None:
    """Periods of two days and some, so that many of them end, within an hour."""
    customer, session = books.customer(key), books.world.session
    session.execute(delete(Period).where(Period.customer_id == customer.id))
    starts_at = START - timedelta(days=1) + offset
    for number in range(60):
        begins = starts_at + number * PERIOD
        session.add(Period(customer_id=customer.id, starts_at=begins, ends_at=begins + PERIOD, plan="enterprise"))
    customer.state_version += 1
    session.commit()
    books.world.send()


@dataclass
class Campaign:
    books: Books
    random: random.Random
    done: Counter[str] = field(default_factory=Counter)
    events: list[tuple[str, str]] = field(default_factory=list)

    def run(self, steps: int) -> None:
        choices: list[tuple[Callable[[], None], int]] = [
            (self.use, 24),
            (self.use_late, 8),
            (self.take_back, 12),
            (self.report, 22),
            (self.pass_hours, 14),
            (self.fault, 24),
            (self.fault_of_a_cancel, 34),
            (self.kill, 14),
            (self.restart, 4),
            (self.doubt, 4),
            (self.end_period, 4),
            (self.operate, 4),
        ]
        names, weights = [name for name, _ in choices], [weight for _, weight in choices]
        for number in count():
            if number >= steps and not too_few(self.done):
                break
            assert number < 2 * steps, too_few(self.done)
            self.random.choices(names, weights)[0]()

    def use(self, ago: timedelta = timedelta(0)) -> None:
        self.done["late usage" if ago else "usage"] += 1
        world, customer = self.books.world, self.random.choice(CUSTOMERS)
        event = world.event(
            customer, self.random.choice(METERS), self.random.randint(1, 9), time=to_micros(world.now - ago)
        )
        world.record(event)
        world.drain()
        self.events.append((customer, event.id))

    def use_late(self) -> None:
        self.use(timedelta(minutes=self.random.randint(10, 600)))

    def take_back(self, recent: bool = False) -> None:
        """An event is voided: the one recorded last, or any of the later half."""
        if not self.events:
            return
        self.done["taken back"] += 1
        world = self.books.world
        place = len(self.events) - 1 if recent else self.random.randrange(len(self.events) // 2, len(self.events))
        customer, id = self.events.pop(place)
        void(
            world.session,
            world.intake,
            world.find(customer),
            "test",
            id,
            reason="campaign",
            actor="campaign",
            now=world.now,
        )
        world.session.commit()
        world.drain()

    def owe_a_cancel(self) -> None:
        """Usage that was reported is taken back."""
        self.use(timedelta(minutes=self.random.randint(60, 200)))
        self.report()
        self.take_back(recent=True)
        self.books.owe()

    def report(self) -> None:
        self.done["reports"] += 1
        self.books.owe()
        self.books.send(summary_delay_seconds=DELAY, parallel=self.random.choice((1, 3)))

    def pass_hours(self) -> None:
        self.advance(minutes=self.random.randint(20, 90))
        self.report()

    def fault(self, path: str = METER_EVENTS) -> None:
        """The kind that came least often so far, and whether it met a request."""
        self.use(timedelta(minutes=self.random.randint(60, 200)))
        self.books.owe()
        name = min(FAULTS, key=lambda name: self.done[f"{name} {path[12:]}"])
        self.books.standin.set("faults", path=path, times=self.random.randint(1, 4), **FAULTS[name])
        before = struck(self.books)
        self.books.send(summary_delay_seconds=DELAY)
        self.done[f"{name} {path[12:]}"] += struck(self.books) < before
        self.books.standin.lift_faults()

    def fault_of_a_cancel(self) -> None:
        self.owe_a_cancel()
        self.fault(ADJUSTMENTS)

    def kill(self) -> None:
        place = min(PLACES, key=lambda place: self.done[f"killed at {place}"])
        if place in CANCELS:
            self.owe_a_cancel()
        else:
            self.use(timedelta(minutes=self.random.randint(60, 200)))
            self.books.owe()
        if self.books.sender_process(f"{place}:1", summary_delay_seconds=DELAY) == -signal.SIGKILL:
            self.done[f"killed at {place}"] += 1
        if self.random.random() < 0.7:
            self.advance(minutes=3)

    def restart(self) -> None:
        self.done["stand-in killed"] += 1
        self.books.standin.kill()
        self.books.send(summary_delay_seconds=DELAY)
        self.books.standin.start()
        self.books.tell_time()

    def doubt(self) -> None:
        """Sent without an answer, and nothing for a day."""
        self.use(timedelta(minutes=120))
        self.books.owe()
        kind = self.random.choice(("drop_answer", "reset"))
        self.books.standin.set("faults", path=METER_EVENTS, kind=kind, times=3)
        self.books.send(summary_delay_seconds=DELAY)
        self.books.standin.lift_faults()
        self.advance(hours=self.random.randint(23, 26))
        self.done["past a day"] += 1
        self.report()

    def end_period(self) -> None:
        """Everybody's running period ends, and with luck the grace too."""
        self.done["past a period's end"] += 1
        world = self.books.world
        end = max(
            next(period.ends_at for period in world.periods(key) if period.ends_at > world.now) for key in CUSTOMERS
        )
        self.use()
        self.advance(seconds=(end - world.now).total_seconds() + self.random.choice((30, 600, 3000)))
        self.report()

    def operate(self) -> None:
        self.done["decisions"] += 1
        decide(self.books)

    def advance(self, **delta: float) -> None:
        self.books.advance(**delta)
        self.books.world.close_periods(grace_seconds=2700)

    def finish(self) -> None:
        for _ in range(12):
            self.advance(hours=4)
            self.report()
            self.operate()
        assert {row.state for row in self.books.rows()} <= {"accepted", "withdrawn", "written_off"}


@pytest.mark.parametrize("seed", [1])
def test_stripes_totals_are_ours_whatever_happened(seed: int, books: Books, record_property: Any) -> None:
    campaign = Campaign(books, random.Random(seed))

    campaign.run(STEPS)
    campaign.finish()

    record_property(counts.KILLS, f"Stripe campaign, seed {seed}: {STEPS} steps: {told(campaign.done)}")
    print(told(campaign.done))
    assert at_stripe(books, CUSTOMERS) == ours(books)
    books.check()
    assert [check.name for check in verify(books.engine, books.world.redis) if not check.holds] == []
    states = Counter(row.state for row in books.rows())
    assert states["withdrawn"] >= LEAST, states
    assert too_few(campaign.done) == {}
