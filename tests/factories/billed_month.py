"""A month of a customer with a subscription at the stand-in: what we estimate, and what Stripe's invoices say."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import stripe
from redis import Redis
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from metering.billing.estimate import Estimate, estimate
from metering.catalog import load_catalog
from metering.embedded import Addresses
from metering.money import minor_digits
from metering.runtime import Runtime, build_runtime
from metering.settings import load_settings
from metering.stripe_sync.gateway import STANDIN
from metering.stripe_sync.prices import prices_of
from metering.stripe_sync.push.plan import changes
from metering.stripe_sync.push.run import look, push
from tests.factories.ledger import Books
from tests.factories.standin import KEY, StandinProcess
from tests.factories.subscriptions import subscribed
from tests.factories.world import PARTITIONS, World

BEGIN = datetime(2026, 12, 1, tzinfo=UTC)
END = datetime(2027, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Used:
    """`quantity` of a meter, so many days and hours after the month began; levels are set to it."""

    meter: str
    quantity: object
    day: int = 0
    hour: int = 0

    @property
    def at(self) -> datetime:
        return BEGIN + timedelta(days=self.day, hours=self.hour)


@dataclass
class BilledMonth:
    session: Session
    redis: Redis
    engine: Engine
    standin: StandinProcess
    servers: Addresses
    folder: Path
    catalog: Path | None = None

    def __post_init__(self) -> None:
        self.use_catalog(self.catalog)

    def use_catalog(self, catalog: Path | None) -> None:
        self.catalog = catalog
        world = World(self.session, self.redis, load_catalog(self.catalog), now=BEGIN)
        world.initialise()
        self.books = Books(world, self.standin, self.engine)
        self.client = self.standin.client()

    @contextmanager
    def runtime(self) -> Iterator[Runtime]:
        settings: dict[str, Any] = {"database_url": self.servers.database_url, "redis_url": self.servers.redis_url}
        settings |= {"stripe": "standin", "stripe_api_key": KEY, "stripe_api_base": self.standin.url}
        settings |= {"env": "development", "home": self.folder, "partitions": PARTITIONS, "catalog": self.catalog}
        runtime = build_runtime(load_settings(**settings), clock=lambda: self.books.world.now)
        yield runtime
        runtime.close()

    def push(self) -> None:
        with self.runtime() as runtime:
            push(runtime, changes(look(runtime)), actor="test")

    def live(self, plan: str, used: Iterable[Used]) -> Estimate:
        """The whole month on a plan; the bill that we estimate at its end. Everything was reported by then."""
        self.begin(plan)
        for one in sorted(used, key=lambda one: one.at):
            self.use(one)
        self.report(END + timedelta(minutes=5))
        return self.estimated()

    def begin(self, plan: str) -> None:
        """Subscribe at the beginning of the month."""
        # A test clock stands still, so that the subscription's period begins to the second where ours does.
        self.clock = self.client.v1.test_helpers.test_clocks.create({"frozen_time": int(BEGIN.timestamp())}).id
        at_stripe = self.client.v1.customers.create({"name": "Acme", "test_clock": self.clock})
        self.customer = at_stripe.id
        customer = self.books.world.customer("acme", plan, stripe_customer_id=at_stripe.id)
        items: Any = [{"price": price} for price in prices_of(self.session, STANDIN, plan)]
        made = self.client.v1.subscriptions.create({"customer": at_stripe.id, "items": items})
        subscribed(self.session, customer, STANDIN, BEGIN, stripe_id=made.id)
        self.session.commit()

    def use(self, one: Used) -> None:
        world = self.books.world
        world.now = one.at
        how = {"outright": True} if world.catalog.meters[one.meter].is_level else {}
        self.books.use(one.quantity, meter=one.meter, **how)

    def report(self, at: datetime) -> None:
        """Report what was used until then."""
        world = self.books.world
        world.now = at
        world.close_hours()
        self._pass_to(at)
        self.books.owe()
        sent = self.books.send(limit=10_000)
        assert (sent.postponed, sent.parked, sent.stopped) == (0, 0, None)

    def estimated(self) -> Estimate:
        world = self.books.world
        (month,) = [period for period in world.periods() if period.starts_at == BEGIN]
        return estimate(self.session, world.catalog, world.find("acme"), month, now=world.now)

    def invoiced(self) -> dict[str, Decimal]:
        """What Stripe's invoices bill for the month, by product, in the major unit.

        The base fee is paid when the month begins, on its first invoice; its usage stands on the one at its end.
        """
        self._pass_to(END + timedelta(hours=2))  # an invoice is final an hour after the period
        self.books.advance(hours=2)
        found: dict[str, Decimal] = defaultdict(Decimal)
        for invoice in self.client.v1.invoices.list({"customer": self.customer, "limit": 100}).data:
            assert invoice.status == "paid"
            for line in self.client.v1.invoices.line_items.list(invoice.id, {"limit": 100}).auto_paging_iter():
                if int(BEGIN.timestamp()) == line.period.start:
                    found[_product(line)] += Decimal(line.amount).scaleb(-minor_digits(line.currency))
        return dict(found)

    def _pass_to(self, moment: datetime) -> None:
        clocks = self.client.v1.test_helpers.test_clocks
        clocks.advance(self.clock, {"frozen_time": int(moment.timestamp())})
        assert clocks.retrieve(self.clock).status == "ready"


def ours(bill: Estimate) -> dict[str, Decimal]:
    """The lines of an estimate by the product that stands for each at Stripe."""
    return {
        f"metering_meter_{line.meter}" if line.meter else f"metering_plan_{bill.plan}": line.amount
        for line in bill.lines
    }


def as_table(bill: Estimate) -> str:
    """The lines of a bill as the documentation shows them."""
    rows = ["| line | used | amount |", "|---|---|---|"]
    for line in bill.lines:
        used = f"{round(line.usage.quantity, 6).normalize() + 0:,f} x {line.usage.unit}" if line.usage else ""
        rows.append(f"| {line.name} | {used} | ${line.amount:,.2f} |")
    return "\n".join([*rows, f"| **total** | | **${bill.total:,.2f}** |"])


def _product(line: stripe.InvoiceLineItem) -> str:
    assert line.pricing is not None
    assert line.pricing.price_details is not None
    return str(line.pricing.price_details.product)
