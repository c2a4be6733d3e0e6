"""`Metering`: usage metering inside a Flask app, and the Python service behind it.

    metering = Metering(app, customer=lambda: current_user.account_key)

Registers no SQLAlchemy, Login or CSRF extension and no pages; the host has its own. A call that is let in and recorded
needs Redis only. In our own app the same object stands behind the API and the pages.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Any

from flask import Flask
from sqlalchemy.exc import SQLAlchemyError

from metering.accounts.customers import find_customer
from metering.billing.estimate import Estimate, estimate
from metering.billing.periods import current_period, ensure_periods
from metering.calls.call import Calls
from metering.calls.rehearsal import running as rehearsing
from metering.catalog import Catalog, Meter, load_catalog
from metering.clock import Clock, to_micros, utc_now
from metering.errors import IntakeUnavailable, InvalidUsage
from metering.ids import new_id
from metering.intake.event import UsageEvent, make_event
from metering.intake.refusals import StaleState
from metering.intake.values import MeterStanding, Recording, Span, Standing
from metering.models import Event
from metering.runtime import Runtime, build_runtime
from metering.settings import Settings, load_settings
from metering.store import inbox
from metering.store.state import send_customers, touch
from metering.store.void import void

FUTURE_SECONDS = 300
CustomerOf = Callable[[], str | None]


@dataclass(frozen=True, slots=True)
class MeterUsage:
    """Where a customer stands on a meter, in the meter's unit. `percent` is of the limit; None where there is none."""

    meter: str
    name: str
    unit: str
    used: Decimal
    held: Decimal
    limit: Decimal | None
    limit_mode: str
    remaining: Decimal | None
    included: Decimal | None
    included_unit: str | None
    percent: Decimal | None
    resets_at: datetime | None


@dataclass(frozen=True, slots=True)
class Summary:
    """A customer's usage in its current period."""

    customer: str
    plan: str
    period: Span
    meters: tuple[MeterUsage, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """Whether so much more would be let in right now. It holds nothing: another call may be faster."""

    allowed: bool
    usage: MeterUsage


class Metering:
    """Metering for a Flask app. `customer` names the billed party of the current request, or None for nobody.

    Without `customer` the callers of metered endpoints are known by their API keys.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        customer: CustomerOf | None = None,
        settings: Settings | None = None,
        clock: Clock = utc_now,
        runtime: Runtime | None = None,
    ) -> None:
        self.customer_of = customer
        self._settings = settings
        self._clock = clock
        self._runtime = runtime
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Make this object the app's: `@metered` finds it, and `flask metering` works on it."""
        app.extensions["metering"] = self

    @cached_property
    def settings(self) -> Settings:
        return self._settings or load_settings()

    @cached_property
    def runtime(self) -> Runtime:
        """Connected at the first use, so that a process that forks its workers shares no connection with them."""
        return self._runtime or build_runtime(self.settings, clock=self._clock)

    @property
    def clock(self) -> Clock:
        return self._runtime.clock if self._runtime else self._clock

    @property
    def catalog(self) -> Catalog:
        """What is sold and counted. The file's alone until the first use that needs servers."""
        runtime = self._runtime or vars(self).get("runtime")
        return runtime.catalog if runtime else self._file_catalog

    @cached_property
    def _file_catalog(self) -> Catalog:
        return load_catalog(self.settings.catalog)

    def meter(self, key: str) -> Meter:
        """A meter by its key. One that this process does not know may have been made a moment ago: only then
        PostgreSQL is asked. Raises UnknownMeter.
        """
        if key not in self.catalog.meters and self.enabled and not rehearsing():
            self.runtime.refresh_meters()
        return self.catalog.meter(key)

    @cached_property
    def calls(self) -> Calls:
        runtime = self.runtime
        return Calls(runtime.intake, lambda: runtime.catalog, runtime.clock, self.keep_for_later)

    @property
    def enabled(self) -> bool:
        return self.settings.enabled

    # -- usage ---------------------------------------------------------------------------------------------------

    def record(
        self,
        customer: str,
        meter: str,
        quantity: object = 1,
        *,
        id: str | None = None,
        source: str = "python",
        time: datetime | None = None,
        properties: Mapping[str, Any] | None = None,
        outright: bool = False,
        enforce: bool = False,
    ) -> bool:
        """Record usage once; whether it was new. The same `source` and `id` again change nothing.

        `outright` sets a level instead of changing it; `enforce` refuses what would pass a hard limit.

        Raises:
            UnknownMeter, BadQuantity, InvalidUsage, UnknownCustomer: it cannot be recorded as it is.
            UsageConflict: this identity was recorded with another payload.
            LimitExceeded: with `enforce`.
            IntakeUnavailable: Redis is away, and METERING_ON_OUTAGE is deny (or PostgreSQL is away as well).
        """
        rehearsal = rehearsing()
        if not (self.enabled or rehearsal):
            return False
        now = self.clock()
        event = make_event(
            self.meter(meter),
            customer=customer,
            quantity=quantity,
            source=source,
            id=new_id() if id is None else id,
            admitted=to_micros(now),
            time=None if time is None else self._checked_time(time, now),
            outright=outright,
            properties=properties,
        )
        if rehearsal:
            rehearsal.count(event, self.catalog, properties or {})
            return True
        try:
            return self.send(event, now, enforce=enforce) == 1
        except IntakeUnavailable:
            if self.settings.on_outage == "deny":
                raise
        self.keep_for_later([event])
        return True

    def keep_for_later(self, events: list[UsageEvent]) -> None:
        """Put usage into the inbox. Raises IntakeUnavailable when PostgreSQL is away too."""
        try:
            with self.runtime.transaction() as session:
                inbox.put(session, self.runtime.intake, events)
        except SQLAlchemyError as error:
            raise IntakeUnavailable("neither Redis nor PostgreSQL took the usage") from error

    def void(self, customer: str, id: str, *, source: str = "python", reason: str, actor: str = "python") -> Event:
        """Take back one event that was recorded. Raises UnknownCustomer, NotFound, Conflict, IntakeUnavailable."""
        with self.runtime.transaction() as session:
            found = find_customer(session, customer)
            return void(session, self.runtime.intake, found, source, id, reason=reason, actor=actor, now=self.clock())

    # -- looking -------------------------------------------------------------------------------------------------

    def summary(self, customer: str) -> Summary:
        """The live usage of all meters that are counted live: of others (a mean, different values) there is none.

        Raises UnknownCustomer, IntakeUnavailable.
        """
        catalog = self.catalog
        standing = self.standing(customer, [meter.key for meter in catalog.meters.values() if meter.counts_live])
        meters = tuple(usage_of(self.catalog, standing.plan, one, standing.period.ends_at) for one in standing.meters)
        return Summary(customer, standing.plan, standing.period, meters)

    def check_limit(self, customer: str, meter: str, quantity: object = 1) -> Check:
        """Would `quantity` more be let in? Raises UnknownMeter, BadQuantity, UnknownCustomer, IntakeUnavailable."""
        return self.check_limits(customer, {meter: quantity})[0]

    def check_limits(self, customer: str, quantities: Mapping[str, object]) -> list[Check]:
        """Would so much more of each meter be let in, seen at one moment? Raises as `check_limit`."""
        units = {meter: self.meter(meter).to_units(quantity) for meter, quantity in quantities.items()}
        observed = [meter for meter in units if self.catalog.meter(meter).observes]
        if observed:
            raise InvalidUsage(f"{observed[0]} is not counted live, so no limit can hold it", meter=observed[0])
        standing = self.standing(customer, units)
        active, ends_at = standing.status == "active", standing.period.ends_at
        return [
            Check(active and one.admits(units[one.meter]), usage_of(self.catalog, standing.plan, one, ends_at))
            for one in standing.meters
        ]

    def current_period(self, customer: str) -> Span:
        """Raises UnknownCustomer, IntakeUnavailable."""
        return self.standing(customer, []).period

    def estimate(self, customer: str) -> Estimate:
        """What the current period costs so far, line by line. Raises UnknownCustomer."""
        now = self.clock()
        with self.runtime.transaction() as session:
            found = find_customer(session, customer)
            return estimate(session, self.catalog, found, current_period(session, found.id, now), now=now)

    def standing(self, customer: str, meters: Any, *, key_id: int | None = None) -> Standing:
        """Where a customer stands in the intake. Raises UnknownCustomer, UnknownMeter, IntakeUnavailable."""
        intake, names = self.runtime.intake, list(meters)
        try:
            return intake.standing(customer, names, now=self.clock(), key_id=key_id)
        except StaleState:
            self.refresh(customer)
        return intake.standing(customer, names, now=self.clock(), key_id=key_id)

    def refresh(self, customer: str) -> None:
        """Send a customer's state anew, its next period made if need be. Raises UnknownCustomer."""
        runtime, now = self.runtime, self.clock()
        try:
            with runtime.transaction() as session:
                found = find_customer(session, customer)
                if ensure_periods(session, [found], now):
                    touch(session, [found.id])
                    session.refresh(found)
                send_customers(session, runtime.redis, runtime.catalog, [found], now=now)
        except SQLAlchemyError as error:
            raise IntakeUnavailable("the customer's billing period is not known, and PostgreSQL is away") from error

    def send(self, event: UsageEvent, now: datetime, *, enforce: bool = False) -> int:
        """Record a checked event; 1 if it was new. Raises as `record` does, IntakeUnavailable whatever the settings."""
        intake, how = self.runtime.intake, self.recording(now, enforce=enforce)
        try:
            return intake.record(intake.partition(event.customer), [event], how)
        except StaleState:
            self.refresh(event.customer)
        return intake.record(intake.partition(event.customer), [event], how)

    def recording(self, now: datetime, *, enforce: bool = False) -> Recording:
        """How events are recorded here."""
        return Recording(now, self.settings.identity_window_seconds, self.settings.backlog_limit, enforce)

    def _checked_time(self, time: datetime, now: datetime) -> int:
        """Raises InvalidUsage for a time that is too late to be counted, or yet to come."""
        if time.tzinfo is None:
            raise InvalidUsage("time needs a time zone", field="time")
        age = (now - time).total_seconds()
        if age > self.settings.lateness_seconds or age < -FUTURE_SECONDS:
            raise InvalidUsage(
                f"time must lie within the last {self.settings.lateness_seconds / 86400:g} days "
                f"and at most {FUTURE_SECONDS // 60} minutes ahead",
                field="time",
            )
        return to_micros(time)


def usage_of(catalog: Catalog, plan: str, one: MeterStanding, ends_at: datetime) -> MeterUsage:
    """A standing in the meter's unit, with what the plan includes; `ends_at` is the end of the period."""
    meter = catalog.meter(one.meter)
    price = catalog.price(plan, meter.key)
    return MeterUsage(
        meter=meter.key,
        name=meter.name,
        unit=meter.unit,
        used=meter.to_quantity(one.used),
        held=meter.to_quantity(one.held),
        limit=None if one.limit is None else meter.to_quantity(one.limit),
        limit_mode=one.mode,
        remaining=None if one.remaining is None else meter.to_quantity(one.remaining),
        included=price.included if price else None,
        included_unit=price.unit if price else None,
        percent=percent_of(one.used, one.limit),
        resets_at=None if meter.is_level else ends_at,
    )


def percent_of(used: int, limit: int | None) -> Decimal | None:
    """How much of a limit is used, in percent with two decimal places; a limit of nothing is full."""
    if limit is None:
        return None
    return (Decimal(used) * 100 / limit).quantize(Decimal("0.01")) if limit else Decimal(100)
