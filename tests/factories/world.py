"""A small world to test in: the product's own parts, wired by hand, with a clock that tests move."""

import itertools
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from redis import Redis
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from metering.accounts.customers import create_customer
from metering.accounts.keys import create_key
from metering.billing.periods import close_periods
from metering.catalog import Catalog
from metering.clock import to_micros
from metering.ids import NewKey
from metering.intake.admission import Intake
from metering.intake.event import UsageEvent, make_event
from metering.intake.scripts import prefix, redis_run
from metering.intake.values import Admission, Ask, Recording, Replay
from metering.models import Customer, Event, PartitionRow, Period, PeriodTotal
from metering.store.accruals import close_hours, settle_ended
from metering.store.drain import Drained, drain
from metering.store.meters import meter_ids, prepare
from metering.store.rebuild import open_partition, rebuild
from metering.store.state import send_unsent
from tests.factories.statements import counting

START = datetime(2026, 11, 10, 12, 0, tzinfo=UTC)
PARTITIONS = 4


@dataclass
class World:
    session: Session
    redis: Redis
    catalog: Catalog
    now: datetime = START
    lease_seconds: float = 30
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    @property
    def intake(self) -> Intake:
        return Intake(self.redis, self.catalog.meters, PARTITIONS, self.lease_seconds)

    def initialise(self) -> None:
        """What rebuilding each partition of an empty product comes to, in a fraction of its time."""
        prepare(self.session, self.catalog, PARTITIONS)
        self.session.execute(update(PartitionRow).values(generation=1, redis_run=redis_run(self.redis)))
        self.session.commit()
        pipe = self.redis.pipeline()
        for number in range(PARTITIONS):
            pipe.mset({prefix(number) + name: value for name, value in (("gen", 1), ("seq", 0), ("fixed", 0))})
        pipe.execute()

    def rebuild(self, partition: int) -> None:
        generation = rebuild(self.session, self.redis, self.catalog, partition, now=self.now, force=True)
        self.session.commit()
        assert generation is not None
        open_partition(self.redis, partition, generation)

    def rebuild_lost(self) -> list[int]:
        """What the worker does when a drain finds partitions whose counters are gone."""
        lost = drain(self.session, self.redis, now=self.now).lost
        self.session.commit()
        for partition in lost:
            self.rebuild(partition)
        return lost

    def advance(self, **delta: float) -> None:
        self.now += timedelta(**delta)

    def customer(self, key: str = "acme", plan: str = "free", **more: Any) -> Customer:
        customer = create_customer(
            self.session,
            self.catalog,
            key=key,
            name=key.title(),
            plan=plan,
            partitions=PARTITIONS,
            now=self.now,
            **more,
        )
        self.session.commit()
        self.send()
        return customer

    def find(self, key: str) -> Customer:
        return self.session.scalars(select(Customer).where(Customer.key == key)).one()

    def key(self, customer: Customer, *scopes: str) -> NewKey:
        _, made = create_key(
            self.session, customer, name="test", scopes=scopes or ("meter",), now=self.now, by_operator=True
        )
        self.session.commit()
        self.send()
        return made

    def send(self) -> None:
        send_unsent(self.session, self.redis, self.catalog, now=self.now)
        self.session.commit()

    def event(self, customer: str = "acme", meter: str = "api_call", quantity: object = 1, **more: Any) -> UsageEvent:
        more.setdefault("id", f"e{next(self.numbers)}")
        more.setdefault("source", "test")
        more.setdefault("admitted", to_micros(self.now))
        return make_event(self.catalog.meters[meter], customer=customer, quantity=quantity, **more)

    def close_periods(self, grace_seconds: float = 0) -> None:
        close_periods(self.session, self.redis, now=self.now, grace_seconds=grace_seconds)
        self.session.commit()
        self.send()

    def record(self, *events: UsageEvent, **more: Any) -> int:
        how = Recording(**({"now": self.now, "identity_window_seconds": 3600, "backlog_limit": 10**6} | more))
        return self.intake.record(self.intake.partition(events[0].customer), events, how)

    def reserve(self, reserve: Mapping[str, int], customer: str = "acme", **more: Any) -> Admission:
        rid = f"{next(self.numbers):032x}"
        ask = Ask(reserve=reserve, customer=customer, **more)
        admission = self.intake.reserve(ask, rid=rid, partition=self.intake.partition(customer), now=self.now)
        assert not isinstance(admission, Replay)
        return admission

    def settle(self, admission: Admission, **quantities: object) -> Any:
        events = [
            self.event(admission.customer, meter, quantity, id=f"{admission.rid}:{meter}", source="call")
            for meter, quantity in quantities.items()
        ]
        return self.intake.settle(admission, events, now=self.now)

    def contents(self) -> dict[str, str | None]:
        """What every table holds, as one digest each; but for sessions, which are renewed when they are used."""
        self.session.rollback()
        tables = sorted(table for table in Customer.metadata.tables if table != "user_sessions")
        digest = "md5(string_agg(one::text, '|' ORDER BY one::text))"
        query = " UNION ALL ".join(f"SELECT '{table}', (SELECT {digest} FROM {table} one)" for table in tables)
        return {str(row[0]): row[1] for row in self.session.execute(text(query))}

    def used(self, meter: str = "api_call", customer: str = "acme") -> int:
        """The live counter."""
        return self.intake.standing(customer, [meter], now=self.now).meters[0].used

    def held(self, meter: str = "api_call", customer: str = "acme") -> int:
        return self.intake.standing(customer, [meter], now=self.now).meters[0].held

    def drain(self) -> Drained:
        """Drain until nothing waits and every correction has reached Redis."""
        whole = Drained()
        for _ in range(100):
            drained = drain(self.session, self.redis, now=self.now)
            self.session.commit()
            whole.stored.add(drained.stored)
            whole.lost += drained.lost
            if not (drained.busy or drained.stored.fresh or drained.stored.corrections):
                return whole
        raise AssertionError("the drain does not come to an end")

    def close_hours(self, settle_seconds: float = 0) -> int:
        """Close every hour that can be closed, and the last parts of ended periods; how many levels moved on."""
        moved = 0
        while more := close_hours(self.session, self.catalog, now=self.now, settle_seconds=settle_seconds).levels:
            self.session.commit()
            moved += more
        while settle_ended(self.session, self.catalog, now=self.now, settle_seconds=settle_seconds).levels:
            self.session.commit()
        self.session.commit()
        return moved

    def periods(self, customer: str = "acme") -> list[Period]:
        """The stored billing periods of a customer, in order."""
        query = select(Period).join(Customer, Customer.id == Period.customer_id).where(Customer.key == customer)
        periods = list(self.session.scalars(query.order_by(Period.starts_at)))
        self.session.commit()
        return periods

    def counting(self) -> AbstractContextManager[list[int]]:
        """How many statements the session sends meanwhile."""
        return counting(self.session.get_bind())

    def total(self, meter: str = "api_call", customer: str = "acme") -> int:
        """What PostgreSQL holds, over all periods."""
        total = self.session.scalar(
            select(func.sum(PeriodTotal.units))
            .join(Customer, Customer.id == PeriodTotal.customer_id)
            .where(Customer.key == customer, PeriodTotal.meter_id == meter_ids(self.session)[meter])
        )
        self.session.commit()
        return int(total or 0)

    def events(self) -> list[Event]:
        rows = list(self.session.scalars(select(Event).order_by(Event.time, Event.position, Event.item)))
        self.session.commit()
        return rows

    def offset(self, partition: int) -> int:
        self.session.commit()
        return self.session.get_one(PartitionRow, partition).sequence
