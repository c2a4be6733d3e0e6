"""Hundreds of steps in an order that a seed decides: usage, late usage, usage taken back, every fault of Stripe,
senders killed at every named point, the clock moved past a day and past the ends of periods. In the end Stripe's
totals, added up here from the events that the stand-in received, are ours, for each customer, meter and period.
"""

import random
import signal
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, delete, text

from metering.clock import to_micros
from metering.models import Period
from metering.store.verify import verify
from metering.store.void import void
from metering.stripe_sync.decisions import retry, settle
from tests.factories.ledger import METER_EVENTS, Books
from tests.factories.standin import StandinProcess
from tests.factories.world import START, World
from tests.faults import counts

STEPS = 1000
LEAST = 10
"""So often each kind of step must have come."""

CUSTOMERS, METERS = ("acme", "bolt", "coil"), ("api_call", "tokens")
PERIOD = timedelta(days=2, hours=5, minutes=20)
DELAY = 600.0
ADJUSTMENTS = "/v1/billing/meter_event_adjustments"
CANCELS = ("stripe.before_cancel", "stripe.cancelled")
PLACES = ("stripe.before_send", "stripe.accepted", *CANCELS)
FAULTS: dict[str, dict[str, Any]] = {
    "answer dropped": {"kind": "drop_answer"},
    "connection reset": {"kind": "reset"},
    "outage": {"kind": "outage"},
    "500 before": {"kind": "error_500"},
    "500 after": {"kind": "error_500", "when": "after"},
    "429 for all": {"kind": "rate_limit"},
    "429 for one": {"kind": "rate_limit", "reason": "resource-specific"},
    "slow": {"kind": "slow", "seconds": 0.01},
}


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
        for _ in range(steps):
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
        void(world.session, world.find(customer), "test", id, reason="campaign", actor="campaign", now=world.now)
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
        """What waits for an operator is decided, by what the stand-in says that it received."""
        self.done["decisions"] += 1
        world = self.books.world
        received = {event["identifier"] for event in counting_events(self.books)}
        for row in self.books.rows("parked"):
            if row.first_sent_at is None:
                retry(world.session, row.id, now=world.now, actor="campaign")
            else:
                counted = row.identifier in received
                settle(world.session, row.id, counted=counted, note="campaign", now=world.now, actor="campaign")
            world.session.commit()

    def advance(self, **delta: float) -> None:
        self.books.advance(**delta)
        self.books.world.close_periods(grace_seconds=2700)

    def finish(self) -> None:
        for _ in range(12):
            self.advance(hours=4)
            self.report()
            self.operate()
        assert {row.state for row in self.books.rows()} <= {"accepted", "withdrawn", "written_off"}


def struck(books: Books) -> int:
    return sum(fault["times"] or 0 for fault in books.standin.inspect("faults")["faults"])


def counting_events(books: Books) -> list[dict[str, Any]]:
    events = books.standin.inspect("events")["events"]
    return [event for event in events if event["cancelled_at"] is None and event["error"] is None]


def at_stripe(books: Books) -> dict[tuple[str, str, int], Decimal]:
    """What the stand-in has received and not taken back, by customer, meter and our period of its timestamp."""
    keys = {books.world.find(key).stripe_customer_id: key for key in CUSTOMERS}
    periods = {key: books.world.periods(key) for key in CUSTOMERS}
    totals: dict[tuple[str, str, int], Decimal] = defaultdict(Decimal)
    for event in counting_events(books):
        at = datetime.fromtimestamp(event["timestamp"], UTC)
        key = keys[event["customer"]]
        (period,) = (one for one in periods[key] if one.starts_at <= at < one.ends_at)
        totals[key, event["event_name"], period.id] += Decimal(event["value"])
    return {series: total for series, total in totals.items() if total}


def ours(books: Books) -> dict[tuple[str, str, int], Decimal]:
    rows = books.world.session.execute(
        text("""
            SELECT c.key, m.key AS meter, r.period_id, sum(r.units) AS units
            FROM rollups r JOIN customers c ON c.id = r.customer_id JOIN meters m ON m.id = r.meter_id
            GROUP BY 1, 2, 3
        """)
    )
    return {(row.key, row.meter, row.period_id): row.units for row in rows if row.units}


@pytest.mark.parametrize("seed", [1])
def test_stripes_totals_are_ours_whatever_happened(seed: int, books: Books, record_property: Any) -> None:
    campaign = Campaign(books, random.Random(seed))

    campaign.run(STEPS)
    campaign.finish()

    told = ", ".join(f"{name} {number}" for name, number in sorted(campaign.done.items()))
    record_property(counts.KILLS, f"Stripe campaign, seed {seed}: {STEPS} steps: {told}")
    print(told)
    assert at_stripe(books) == ours(books)
    books.check()
    assert [check.name for check in verify(books.engine, books.world.redis) if not check.holds] == []
    states = Counter(row.state for row in books.rows())
    assert states["withdrawn"] >= LEAST, states
    assert {name: number for name, number in campaign.done.items() if number < LEAST} == {}
