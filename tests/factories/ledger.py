"""A world that reports to the stand-in: usage recorded as ever, one clock for both, and the books of both sides."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.orm import Session, sessionmaker

from metering import failpoints
from metering.models import Customer, LedgerEntry, StripeReport
from metering.stripe_sync.gateway import STANDIN, StripeApi, connect
from metering.stripe_sync.ledger import LedgerStatus, ledger_status, owe
from metering.stripe_sync.meters import find_meters, link_meters
from metering.stripe_sync.sender import SendReport, send_due
from tests.factories.forks import FORKS
from tests.factories.standin import KEY, StandinProcess
from tests.factories.subscriptions import subscribed
from tests.factories.world import World

SETTLE_SECONDS = 120.0
METER_EVENTS = "/v1/billing/meter_events"


@dataclass
class Books:
    world: World
    standin: StandinProcess
    engine: Engine

    def __post_init__(self) -> None:
        self.sessions = sessionmaker(self.engine, expire_on_commit=False)
        self.tell_time()

    def open(self) -> "Books":
        """Meters at the stand-in, linked to ours."""
        meters = find_meters(self.gateway(), self.world.catalog, {}, create=True)
        link_meters(self.world.session, STANDIN, meters)
        self.world.session.commit()
        return self

    def gateway(self, retries: int = 0, key: str = KEY) -> StripeApi:
        return connect(key, standin=True, api_base=self.standin.url, timeout_seconds=5, network_retries=retries)

    def customer(self, key: str = "acme", plan: str = "enterprise", *, known: bool = True) -> Customer:
        stripe_id = self.gateway().ensure_customer(key, key.title()) if known else None
        customer = self.world.customer(key, plan, stripe_customer_id=stripe_id)
        if known:
            subscribed(self.world.session, customer, STANDIN)
            self.world.session.commit()
        return customer

    def tell_time(self) -> None:
        self.standin.set("clock", now=self.world.now.timestamp())

    def advance(self, **delta: float) -> None:
        self.world.advance(**delta)
        self.tell_time()

    def use(self, quantity: object = 1, customer: str = "acme", meter: str = "api_call", **more: object) -> None:
        """Usage, recorded and drained."""
        self.world.record(self.world.event(customer, meter, quantity, **more))
        self.world.drain()

    def owe(self, session: Session | None = None, limit: int = 1000) -> int:
        """Everything that is owed now becomes rows; how many."""
        session, made = session or self.world.session, 0
        while more := owe(session, STANDIN, now=self.world.now, settle_seconds=SETTLE_SECONDS, limit=limit):
            session.commit()
            made += more
        session.commit()
        return made

    def send(self, gateway: StripeApi | None = None, limit: int = 1000, **more: Any) -> SendReport:
        gateway = gateway or self.gateway()
        return send_due(self.sessions, gateway, clock=lambda: self.world.now, limit=limit, jitter=lambda: 0.5, **more)

    def report_hours(self, **delta: float) -> SendReport:
        """What happens every hour: time passes, the ledger is written, the sender runs."""
        self.advance(**delta or {"hours": 1, "minutes": 5})
        self.owe()
        return self.send()

    def status(self) -> LedgerStatus:
        status = ledger_status(self.world.session, self.world.catalog, STANDIN, self.world.now)
        self.world.session.commit()
        return status

    def rows(self, state: str | None = None) -> Sequence[StripeReport]:
        self.world.session.commit()
        query = select(StripeReport).order_by(StripeReport.id).execution_options(populate_existing=True)
        return [row for row in self.world.session.scalars(query) if state in (None, row.state)]

    def counted(self) -> dict[tuple[str, str, datetime], Decimal]:
        """What the stand-in counted, by event name, Stripe's customer and hour."""
        return {
            (total["event_name"], total["customer"], datetime.fromisoformat(total["hour_start"])): Decimal(
                total["total"]
            )
            for total in self.standin.inspect("totals")["totals"]
            if Decimal(total["total"])
        }

    def used(self) -> dict[tuple[str, str, datetime], Decimal]:
        """What our rollups and accruals hold of customers that Stripe knows, by the hour it is reported for."""
        found: dict[tuple[str, str, datetime], Decimal] = defaultdict(Decimal)
        for row in self.world.session.execute(
            text("""
                SELECT m.key, c.stripe_customer_id, u.units,
                    date_trunc('hour', greatest(u.hour, p.starts_at), 'UTC') AS hour
                FROM (
                    SELECT customer_id, meter_id, period_id, hour, units, 'usage' AS kind FROM rollups
                    UNION ALL SELECT customer_id, meter_id, period_id, hour, units, 'level' FROM accruals
                ) u
                JOIN meters m ON m.id = u.meter_id AND m.kind = u.kind
                JOIN customers c ON c.id = u.customer_id AND c.stripe_customer_id IS NOT NULL
                JOIN periods p ON p.id = u.period_id
            """)
        ):
            found[row.key, row.stripe_customer_id, row.hour] += row.units
        self.world.session.commit()
        return {key: units for key, units in found.items() if units}

    def check(self) -> None:
        """The invariant: reported is the sum of the report rows but those that were withdrawn."""
        sums: dict[tuple[int, int, int, datetime], int] = defaultdict(int)
        for row in (row for row in self.rows() if row.state != "withdrawn"):
            sums[row.customer_id, row.meter_id, row.period_id, row.hour] += row.value
        query = select(LedgerEntry).execution_options(populate_existing=True)
        for entry in self.world.session.scalars(query):
            key = (entry.customer_id, entry.meter_id, entry.period_id, entry.hour)
            assert int(entry.reported) == sums.pop(key, 0), key
        self.world.session.commit()
        assert not sums

    def sender_process(self, failpoint: str | None = None, summary_delay_seconds: float = 0.0) -> int:
        """A sender as a process of its own, which runs once; its exit code."""
        url = self.engine.url.render_as_string(hide_password=False)
        process = FORKS.Process(
            target=send_once, args=(url, self.standin.url, self.world.now, failpoint, summary_delay_seconds)
        )
        process.start()
        process.join(60)
        assert process.exitcode is not None, "the sender does not end"
        return process.exitcode


def owed_rows(books: Books, customers: int = 1, hours: int = 1) -> None:
    """A row of 8 for each customer and hour, not sent yet."""
    names = [f"c{number}" for number in range(customers)]
    for name in names:
        books.customer(name)
    for _ in range(hours):
        for name in names:
            books.use(8, name)
        books.advance(hours=1)
    books.advance(minutes=5)
    assert books.owe() == customers * hours


def arm(books: Books, kind: str, **more: object) -> None:
    books.standin.set("faults", kind=kind, path=METER_EVENTS, method="POST", **more)


def send_once(
    database_url: str, stripe_url: str, now: datetime, failpoint: str | None, summary_delay_seconds: float
) -> None:
    failpoints.arm(failpoint)
    gateway = connect(KEY, standin=True, api_base=stripe_url)
    sessions = sessionmaker(create_engine(database_url))
    send_due(sessions, gateway, clock=lambda: now, limit=100, summary_delay_seconds=summary_delay_seconds)


def at_hour(moment: datetime, offset: int = 0) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0) + timedelta(hours=offset)
