"""Customers with subscriptions at the stand-in, on one test clock: what they do there, and what must follow here."""

import random
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import stripe
from sqlalchemy import select

from metering.models import Customer, Invoice, Period, StripeSubscription
from metering.stripe_sync.gateway import STANDIN
from metering.stripe_sync.prices import prices_of
from tests.factories.ledger import Books

PLANS = ("pro", "enterprise")
SERVED = ("trialing", "active", "past_due")
RUNNING = (*SERVED, "paused", "unpaid")


@dataclass
class Subscribers:
    books: Books
    random: random.Random
    keys: tuple[str, ...]
    begun: dict[str, set[datetime]] = field(default_factory=lambda: defaultdict(set))
    """When periods began of which the stand-in has told, by customer."""

    def open(self) -> "Subscribers":
        world = self.books.world
        self.client = self.books.standin.client()
        self.clock = self.client.v1.test_helpers.test_clocks.create({"frozen_time": int(world.now.timestamp())}).id
        self.ids: dict[str, str] = {}
        for key in self.keys:
            made = self.client.v1.customers.create({"name": key.title(), "test_clock": self.clock})
            self.ids[key] = made.id
            world.customer(key, "free", stripe_customer_id=made.id)
        return self

    def all_of(self, key: str) -> list[stripe.Subscription]:
        """Oldest first; those that never began are left out."""
        params: Any = {"customer": self.ids[key], "status": "all", "limit": 100}
        found = list(self.client.v1.subscriptions.list(params).auto_paging_iter())[::-1]
        return [one for one in found if not one.status.startswith("incomplete")]

    def running(self, key: str) -> stripe.Subscription | None:
        return next((one for one in self.all_of(key) if one.status in RUNNING), None)

    def items(self, plan: str) -> Any:
        prices = prices_of(self.books.world.session, STANDIN, plan)
        self.books.world.session.commit()
        return [{"price": price} for price in prices]

    def buy(self, key: str, *, trial_pauses: bool = False) -> None:
        """`trial_pauses`: a trial that nothing is paid for afterwards."""
        params: Any = {"customer": self.ids[key], "items": self.items(self.random.choice(PLANS))}
        if trial_pauses:
            self.pays(key, "none")
            end = {"missing_payment_method": "pause"}
            params |= {"trial_period_days": self.random.randint(1, 3), "trial_settings": {"end_behavior": end}}
        else:
            self.pays(key, "")
        self.client.v1.subscriptions.create(params)
        self.look(key)

    def change(self, one: stripe.Subscription) -> None:
        """To the other plan."""
        plan = next(plan for plan in PLANS if plan != plan_of(one))
        wanted = self.items(plan)
        present = {item.price.id: item.id for item in one["items"].data}
        prices = [item["price"] for item in wanted]
        gone = [{"id": id, "deleted": True} for price, id in present.items() if price not in prices]
        new = [item for item in wanted if item["price"] not in present]
        self.update(one, items=[*gone, *new])

    def update(self, one: stripe.Subscription, **params: Any) -> None:
        changes: Any = params
        self.client.v1.subscriptions.update(one.id, changes)

    def cancel_now(self, one: stripe.Subscription) -> None:
        self.client.v1.subscriptions.cancel(one.id, {"invoice_now": True, "prorate": True})

    def pays(self, key: str, how: str) -> None:
        """`fail`, `none`, or "" for one that pays."""
        self.client.v1.customers.update(self.ids[key], {"metadata": {"standin_payment": how}})

    def unpause(self, key: str, one: stripe.Subscription) -> None:
        self.pays(key, "")
        self.client.v1.subscriptions.resume(one.id, {"billing_cycle_anchor": {"type": "now"}})
        self.look(key)

    def advance(self, **delta: float) -> None:
        self.books.advance(**delta)
        at = int(self.books.world.now.timestamp())
        self.client.v1.test_helpers.test_clocks.advance(self.clock, {"frozen_time": at})
        assert self.client.v1.test_helpers.test_clocks.retrieve(self.clock).status == "ready"
        for key in self.keys:
            self.look(key)

    def look(self, key: str) -> None:
        """Note where periods begin."""
        for one in self.all_of(key):
            self.begun[key] |= {moment(one.start_date), span(one)[0]} | (
                {moment(one.ended_at)} if one.ended_at else set()
            )

    def next_end(self) -> datetime:
        ends = [span(one)[1] for key in self.keys for one in self.all_of(key) if one.status in SERVED]
        return min(ends, default=self.books.world.now + timedelta(days=20))

    def subscribed(self, key: str, at: datetime) -> bool:
        """Whether a subscription ran then."""
        return any(
            moment(one.start_date) <= at and (one.ended_at is None or at < moment(one.ended_at))
            for one in self.all_of(key)
        )

    def check(self, key: str) -> None:
        """Plan, status and periods are those of the stand-in, and so are the invoices."""
        world = self.books.world
        session = world.session
        session.commit()
        session.expire_all()
        customer, periods, found = world.find(key), world.periods(key), self.all_of(key)
        self._check_rows(customer, found)
        gaps = [(one.ends_at, two.starts_at) for one, two in pairwise(periods) if one.ends_at != two.starts_at]
        assert gaps == [], key
        instants = {moment(one.start_date) for one in found if one.start_date == one.ended_at}
        missing = sorted(self.begun[key] - instants - {one.starts_at for one in periods})
        lived = [[str(moment(at)) for at in (one.start_date, one.ended_at or 0)] for one in found]
        assert missing == [], (key, [str(one) for one in missing], lived, shown(periods))
        now = next(one for one in periods if one.starts_at <= world.now < one.ends_at)
        running = next((one for one in found if one.status in RUNNING), None)
        plan = plan_of(running) if running is not None and running.status in SERVED else "free"
        assert (customer.plan, now.plan) == (plan, plan), (key, shown(periods))
        assert world.intake.standing(key, ["api_call"], now=world.now).plan == plan
        if running is not None and running.status in SERVED:
            assert (now.starts_at, now.ends_at) == span(running), key
        elif running is None:
            after = [one.plan for one in periods if found and one.starts_at >= moment(found[-1].ended_at)]
            assert set(after) <= {"free"}, (key, shown(periods))
        self._check_invoices(customer)

    def _check_rows(self, customer: Customer, found: list[stripe.Subscription]) -> None:
        query = select(StripeSubscription).where(StripeSubscription.customer_id == customer.id)
        stored = {row.stripe_id: row for row in self.books.world.session.scalars(query)}
        said = {
            id: (row.status, row.plan, row.period_starts_at, row.period_ends_at, row.ended_at, row.collection_paused)
            for id, row in stored.items()
            if not row.status.startswith("incomplete")
        }
        assert said == {
            one.id: (
                one.status,
                plan_of(one),
                *span(one),
                moment(one.ended_at) if one.ended_at else None,
                one.pause_collection is not None,
            )
            for one in found
        }

    def _check_invoices(self, customer: Customer) -> None:
        rows = self.books.world.session.scalars(select(Invoice).where(Invoice.customer_id == customer.id))
        params: Any = {"customer": customer.stripe_customer_id, "limit": 100}
        issued = [
            one for one in self.client.v1.invoices.list(params).auto_paging_iter() if one.status not in (None, "draft")
        ]
        assert {row.stripe_id: (row.status, row.total, row.amount_paid) for row in rows if row.status != "draft"} == {
            one.id: (one.status, cents(one.total), cents(one.amount_paid)) for one in issued
        }


def plan_of(one: stripe.Subscription) -> str:
    """By the product of its base fee."""
    (plan,) = (
        str(item.price.product).removeprefix("metering_plan_")
        for item in one["items"].data
        if str(item.price.product).startswith("metering_plan_")
    )
    return plan


def span(one: stripe.Subscription) -> tuple[datetime, datetime]:
    first = one["items"].data[0]
    return moment(first.current_period_start), moment(first.current_period_end)


def moment(seconds: Any) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def cents(amount: int) -> Decimal:
    return Decimal(amount).scaleb(-2)


def shown(periods: list[Period]) -> list[str]:
    return [f"{one.starts_at:%m-%d %H:%M:%S} {one.plan} {'closed' if one.closed_at else ''}" for one in periods[-14:]]
