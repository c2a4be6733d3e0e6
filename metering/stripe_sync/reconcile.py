"""Reconciliation: what Stripe counts beside what was used, customer by customer, with the cause of each difference.

Of a customer that Stripe knows every linked meter is looked at, used or not: one call a customer, meter and period.
Else usage that somebody else reported where we have none would never be seen.

Always holds: Stripe lower, and all of it settled, is topped up by rows of their own; Stripe higher is told to the
operator, and nothing is corrected by itself. What was found is kept, with what was done about it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import structlog
from sqlalchemy import select

from metering.billing.estimate import estimate
from metering.clock import floor_hour
from metering.errors import ConfigurationError, NotFound
from metering.models import Customer, Period, ReconciledDifference, Reconciliation
from metering.runtime import Runtime
from metering.stripe_sync.claims import TOO_OLD
from metering.stripe_sync.comparison import Books, Explained, explain
from metering.stripe_sync.gateway import StripeApi
from metering.stripe_sync.history import replace_differences
from metering.stripe_sync.ledger import MAX_AGE
from metering.stripe_sync.meters import is_reported
from metering.stripe_sync.previews import invoice_preview
from metering.stripe_sync.reporting import gateway_for, summary_delay_seconds, throttle_for
from metering.stripe_sync.sql import statement
from metering.stripe_sync.summaries import hourly_summaries
from metering.stripe_sync.throttle import Throttle
from metering.stripe_sync.top_up import Series, hours_between, top_up

DAY = timedelta(days=1)
CUSTOMERS_AT_ONCE = 100

log = structlog.get_logger("metering.stripe")


@dataclass(frozen=True, slots=True)
class Scope:
    """What to look at: all, or one customer; all periods that Stripe still takes usage of, or the one that holds
    `moment`, or those that ended in `(ended_after, ended_by]`.
    """

    customer: str | None = None
    moment: datetime | None = None
    ended_after: datetime | None = None
    ended_by: datetime | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all periods of a customer are looked at."""
        return self.moment is None and self.ended_by is None

    def holds(self, books: Books) -> bool:
        in_period = self.moment is None or books.starts_at <= self.moment < books.ends_at
        after = self.ended_after is None or books.ends_at > self.ended_after
        return in_period and after and (self.ended_by is None or books.ends_at <= self.ended_by)


@dataclass(frozen=True, slots=True)
class Compared:
    """One customer, meter and period; `done` says what became of a difference."""

    books: Books
    at_stripe: Decimal | None
    estimated: Decimal | None
    invoiced: Decimal | None
    explained: Explained
    done: str = ""

    @property
    def differs(self) -> bool:
        return bool(self.explained.causes)


class Reconciler:
    """Compares customers, one transaction each, in the order of their ids."""

    def __init__(self, runtime: Runtime, gateway: StripeApi, throttle: Throttle) -> None:
        self.runtime, self.gateway, self.throttle = runtime, gateway, throttle
        self.delay = timedelta(seconds=summary_delay_seconds(runtime.settings))
        self.meters = [meter.key for meter in runtime.file_catalog.meters.values() if is_reported(meter)]

    def compare(self, customer_id: int, scope: Scope) -> list[Compared]:
        """Raises StripeFailed, RedisError."""
        now = self.runtime.clock()
        with self.runtime.sessions() as session:
            rows = session.execute(
                statement("billed_series"),
                {
                    "account": self.gateway.account,
                    "customer_id": customer_id,
                    "meters": self.meters,
                    "since": now - MAX_AGE,
                    "now": now,
                    "settled_by": now - self.delay,
                    "too_old": TOO_OLD,
                },
            ).all()
        return [self._compare(row, books, now) for row in rows if scope.holds(books := _books(row))]

    def _compare(self, row: Any, books: Books, now: datetime) -> Compared:
        at_stripe = self._ask(books, now)
        explained = explain(books, at_stripe)
        found = Compared(books, at_stripe, None, None, explained)
        if not explained.causes:
            return found
        estimated, invoiced = self._amounts(row, books.meter, now)
        found = replace(found, estimated=estimated, invoiced=invoiced)
        if explained.gap is None or explained.gap > 0:
            return replace(found, done="told the operator" if explained.needs_operator else "nothing: it is under way")
        return self._mend(row, found, now)

    def _ask(self, books: Books, now: datetime) -> Decimal | None:
        """Stripe's summary of a period so far, in whole minutes: a row's timestamp is never in a minute that begins in
        one period and ends in the next, but for the first of the period, which is rounded down on both sides.
        """
        if books.stripe_meter is None or not books.stripe_customers:
            return None
        start, end = (moment.replace(second=0, microsecond=0) for moment in (books.starts_at, books.ends_at))
        end = min(end, floor_hour(now) + timedelta(hours=1))
        total = Decimal(0)
        for customer in books.stripe_customers if end > start else ():
            self._wait()
            total += self.gateway.summary(books.stripe_meter, customer, start, end)
        return total

    def _mend(self, row: Any, found: Compared, now: datetime) -> Compared:
        books, final = found.books, timedelta(seconds=self.runtime.settings.stripe_finalizes_seconds)
        assert books.stripe_meter is not None
        if now >= books.ends_at + final:
            return _for_operator(found, "told the operator: the period's invoice is final, bill it by hand")
        sent = 0
        for customer in books.stripe_customers:
            self._wait()
            hours = hourly_summaries(
                self.gateway.client,
                books.stripe_meter,
                customer,
                *hours_between(books.starts_at, min(books.ends_at, now)),
            )
            sent += top_up(
                self.runtime.sessions,
                Series(self.gateway.account, row.customer_id, row.meter_id, row.period_id, customer),
                hours,
                asked_at=now,
                summary_delay=self.delay,
                now=now,
            )
        if sent:
            return replace(found, done=f"{sent} sent anew")
        return _for_operator(found, "told the operator: no single hour shows what is missing")

    def _amounts(self, row: Any, meter: str, now: datetime) -> tuple[Decimal | None, Decimal | None]:
        """Our estimate of the meter's line, and Stripe's."""
        with self.runtime.sessions() as session:
            customer, period = session.get_one(Customer, row.customer_id), session.get_one(Period, row.period_id)
            try:
                ours = estimate(session, self.runtime.file_catalog, customer, period, now=now)
            except ConfigurationError:
                return None, None  # a plan that is not sold any more
            self._wait()
            theirs = invoice_preview(session, self.gateway, customer.id, period.starts_at)
        return next((line.amount for line in ours.lines if line.meter == meter), None), theirs.get(meter)

    def _wait(self) -> None:
        while not self.throttle.take("calls"):
            log.info("stripe_throttled")


def reconcile(runtime: Runtime, *, scope: Scope | None = None) -> tuple[Reconciliation, list[Compared]]:
    """Compare now, all of it; what was compared, differences or not. The differences are kept.

    Raises:
        NotFound: there is no such customer. ConfigurationError, StripeFailed, RedisError.
    """
    scope = scope or Scope()
    reconciler = _reconciler(runtime)
    run = _begin(runtime, reconciler.gateway.account, "asked", scope)
    found: list[Compared] = []
    while customers := _customers(runtime, scope, run.done_until):
        for customer_id in customers:
            compared = reconciler.compare(customer_id, scope)
            run = _keep(runtime, run.id, customer_id, scope, compared)
            found += compared
    return _finish(runtime, run.id), found


def reconcile_some(runtime: Runtime, *, enough: Callable[[], bool]) -> int:
    """Go on with the comparison that runs, or begin the one that is due, until `enough`; how many series were compared.

    Due are: once a day everybody; and periods that ended, when all of their usage has been sent and before Stripe makes
    their invoices final. Raises ConfigurationError, StripeFailed, RedisError: it goes on there the next time.
    """
    if runtime.settings.stripe == "off":
        return 0
    reconciler = _reconciler(runtime)
    compared = 0
    while not enough() and (run := _due(runtime, reconciler.gateway.account)) is not None:
        scope = Scope() if run.kind == "daily" else _closing_scope(runtime, run)
        for customer_id in (customers := _customers(runtime, scope, run.done_until)):
            if enough():
                return compared
            found = reconciler.compare(customer_id, scope)
            run = _keep(runtime, run.id, customer_id, scope, found)
            compared += len(found)
        if not customers:
            _finish(runtime, run.id)
    return compared


def _reconciler(runtime: Runtime) -> Reconciler:
    gateway = gateway_for(runtime.settings)
    return Reconciler(runtime, gateway, throttle_for(runtime, gateway.account))


def _due(runtime: Runtime, account: str) -> Reconciliation | None:
    """The run that is not finished, or a new one where it is time for one; closing ones first."""
    now, settings = runtime.clock(), runtime.settings
    with runtime.transaction() as session:
        latest = {
            run.kind: run
            for run in session.scalars(
                select(Reconciliation)
                .where(Reconciliation.account == account, Reconciliation.kind != "asked")
                .order_by(Reconciliation.started_at)
            )
        }
        for kind in ("closing", "daily"):
            if kind in latest and latest[kind].finished_at is None:
                return latest[kind]
    ended_by = now - timedelta(seconds=settings.period_grace_seconds + settings.settle_delay_seconds + 60)
    since = now - timedelta(seconds=settings.stripe_finalizes_seconds)
    if "closing" in latest:
        since = max(since, latest["closing"].ended_until or since)
    scope = Scope(ended_after=since, ended_by=ended_by)
    if ended_by > since and _customers(runtime, scope, 0):
        return _begin(runtime, account, "closing", scope)
    if "daily" not in latest or latest["daily"].started_at <= now - DAY:
        return _begin(runtime, account, "daily", Scope())
    return None


def _closing_scope(runtime: Runtime, run: Reconciliation) -> Scope:
    finalizes = timedelta(seconds=runtime.settings.stripe_finalizes_seconds)
    return Scope(ended_after=run.started_at - finalizes, ended_by=run.ended_until)


def _customers(runtime: Runtime, scope: Scope, after: int) -> Sequence[int]:
    query = select(Customer.id).where(Customer.id > after)
    if scope.customer is not None:
        query = query.where(Customer.key == scope.customer)
    if scope.ended_by is not None:
        ended = (
            (Period.customer_id == Customer.id)
            & (Period.ends_at > scope.ended_after)
            & (Period.ends_at <= scope.ended_by)
        )
        query = query.where(select(Period.id).where(ended).exists())
    with runtime.sessions() as session:
        return session.scalars(query.order_by(Customer.id).limit(CUSTOMERS_AT_ONCE)).all()


def _begin(runtime: Runtime, account: str, kind: str, scope: Scope) -> Reconciliation:
    with runtime.transaction() as session:
        if scope.customer is not None:
            known = session.scalar(select(Customer.id).where(Customer.key == scope.customer))
            if known is None:
                raise NotFound(f"there is no customer {scope.customer}", customer=scope.customer)
        run = Reconciliation(
            account=account,
            kind=kind,
            started_at=runtime.clock(),
            ended_until=scope.ended_by,
            done_until=0,
            compared=0,
        )
        session.add(run)
    return run


def _keep(
    runtime: Runtime, run_id: int, customer_id: int, scope: Scope, compared: Sequence[Compared]
) -> Reconciliation:
    """What was found of one customer, in the place of what was found before, and how far the run came, in one
    transaction.
    """
    differing = [one for one in compared if one.differs]
    series = None if scope.is_whole else [(one.books.meter, one.books.starts_at) for one in compared]
    with runtime.transaction() as session:
        run = session.get_one(Reconciliation, run_id)
        run.done_until, run.compared = customer_id, run.compared + len(compared)
        replace_differences(session, run.account, customer_id, series, now=runtime.clock())
        session.add_all(_row(run_id, one) for one in differing)
    for one in differing:
        if one.explained.needs_operator and run.kind != "asked":
            log.error(
                "stripe_differs",
                customer=one.books.customer,
                meter=one.books.meter,
                period=one.books.starts_at.isoformat(),
                causes=list(one.explained.causes),
                done=one.done,
            )
    return run


def _finish(runtime: Runtime, run_id: int) -> Reconciliation:
    with runtime.transaction() as session:
        run = session.get_one(Reconciliation, run_id)
        run.finished_at = runtime.clock()
    return run


def _row(run_id: int, found: Compared) -> ReconciledDifference:
    books = found.books
    return ReconciledDifference(
        reconciliation_id=run_id,
        customer=books.customer,
        meter=books.meter,
        period_starts_at=books.starts_at,
        used=books.used,
        reported=books.reported,
        at_stripe=found.at_stripe,
        estimated=found.estimated,
        invoiced=found.invoiced,
        causes=list(found.explained.causes),
        done=found.done,
        needs_operator=found.explained.needs_operator,
    )


def _for_operator(found: Compared, done: str) -> Compared:
    return replace(found, done=done, explained=replace(found.explained, needs_operator=True))


def _books(row: Any) -> Books:
    customers = {*row.stripe_customers, *([row.stripe_customer_id] if row.stripe_customer_id else [])}
    return Books(
        customer=row.customer,
        meter=row.meter,
        starts_at=row.starts_at.astimezone(UTC),
        ends_at=row.ends_at.astimezone(UTC),
        used=int(row.used),
        reported=int(row.reported),
        certain=int(row.certain),
        uncertain=tuple(int(value) for value in row.uncertain),
        stripe_meter=row.stripe_meter,
        stripe_customers=tuple(sorted(customers)),
        **{
            name: int(getattr(row, name))
            for name in ("recent", "pending", "doubtful", "cancelling", "parked", "too_old", "written_off")
        },
    )
