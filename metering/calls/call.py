"""One metered call from admission to settlement, without any web framework.

Always holds: a call that failed is given back; one that was served is recorded in full, once: through the intake, or
through the inbox when Redis went away meanwhile. While calls run, one thread a process renews their leases.
"""

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from metering.catalog import Catalog, Meter
from metering.catalog.quantities import exact
from metering.clock import Clock
from metering.errors import IntakeUnavailable, InvalidUsage, UndeclaredMeter, UnknownCustomer
from metering.failpoints import visit
from metering.ids import identity_digest
from metering.intake.admission import Intake
from metering.intake.event import UsageEvent, group_of, op_of, properties_text, units_of
from metering.intake.values import Admission, IdempotencyKey, Settlement

CALL_SOURCE = "call"
SETTLE_TRIES = 2

Fallback = Callable[[list[UsageEvent]], None]
"""Keeps usage durably elsewhere while Redis is away. Raises IntakeUnavailable when that is impossible too."""


@dataclass
class Call:
    """A running call. `used` holds what was reported so far, by meter, in the meter's unit.

    `offline`: it was let in without Redis (METERING_ON_OUTAGE=allow), so its usage goes to the inbox.
    """

    admission: Admission
    main_meter: str
    catalog: Catalog
    used: dict[str, Decimal] = field(default_factory=dict)
    outright: set[str] = field(default_factory=set)
    offline: bool = False
    idempotency: IdempotencyKey | None = None
    finished: bool = False

    @property
    def customer(self) -> str:
        return self.admission.customer

    def set(self, meter: str, quantity: Any) -> None:
        """The real figure, in the meter's unit; replaces what was reported before. On a level: the level itself.

        Raises UndeclaredMeter, BadQuantity.
        """
        known = self._check(meter)
        known.to_units(quantity, signed=known.observes)
        self.used[meter] = exact(quantity)
        if known.is_level:
            self.outright.add(meter)

    def add(self, meter: str, quantity: Any) -> None:
        """More of a meter; on a level a change, which may be negative. Raises UndeclaredMeter, BadQuantity."""
        known = self._check(meter)
        known.to_units(quantity, signed=known.is_level or known.observes)
        self.used[meter] = self.used.get(meter, Decimal(0)) + exact(quantity)

    def _check(self, meter: str) -> Meter:
        known = self.catalog.meter(meter)
        declared = {standing.meter for standing in self.admission.meters}
        if meter not in declared:
            raise UndeclaredMeter(
                f"this call reserved nothing of {meter!r}: declare it with reserve={{{meter!r}: …}}", meter=meter
            )
        return known

    def _identity(self) -> tuple[str, str]:
        """What the events' ids begin with, and what tells their payload.

        Without a key both are the reservation: nobody else can name it, so nothing else can come under its name.
        With an Idempotency-Key that is the key in its window: should the view run again, because nobody could store or
        find the first answer, its usage counts once all the same. A later window counts anew: no key is free for ever.
        """
        idem = self.idempotency
        if idem is None:
            return self.admission.rid, self.admission.rid
        window = self.admission.admitted // (idem.window_ms * 1000)
        return f"{idem.digest}.{window}", idem.fingerprint

    def events(self, properties: Mapping[str, Any]) -> list[UsageEvent]:
        """What the call used, an event a meter. The main meter is always recorded, others when they were used."""
        found = []
        identity, payload = self._identity()
        admission, text = self.admission, properties_text(properties)
        for standing in admission.meters:
            meter = self.catalog.meter(standing.meter)
            quantity = self.used.get(meter.key)
            if quantity is None:
                continue
            if not quantity and meter.key != self.main_meter and meter.key not in self.outright and not meter.observes:
                continue
            op = op_of(meter, outright=meter.key in self.outright)
            id = f"{identity}:{meter.key}"
            event = UsageEvent(
                digest=identity_digest(admission.customer, CALL_SOURCE, id),
                payload=payload,
                customer=admission.customer,
                meter=meter.key,
                op=op,
                units=units_of(meter, op, quantity),
                time=admission.admitted,
                admitted=admission.admitted,
                source=CALL_SOURCE,
                id=id,
                key_id=admission.key_id,
                grp=group_of(meter, properties),
                properties=text,
            )
            found.append(event)
        return found


class Calls:
    """The running calls of a process."""

    def __init__(self, intake: Intake, catalog: Callable[[], Catalog], clock: Clock, fallback: Fallback) -> None:
        self._intake = intake
        self._catalog = catalog
        self._clock = clock
        self._fallback = fallback
        self._renewer = Renewer(intake, clock)

    def started(self, admission: Admission, main_meter: str, quantity: Decimal) -> Call:
        """Take an admitted call under renewal. `quantity` of the main meter stands unless the call says otherwise."""
        visit("call.admitted")
        self._renewer.watch(admission)
        idempotency = admission.idempotency
        return Call(admission, main_meter, self._catalog(), used={main_meter: quantity}, idempotency=idempotency)

    def settle(
        self, call: Call, properties: Mapping[str, Any], *, answer: bytes = b"", delivered: bool = False
    ) -> Settlement:
        """Record what the call used; the second time does nothing.

        `delivered`: its answer has gone out already, so nobody can be told of a refusal. Then the inbox takes all that
        the call used: what can be counted is, and the rest is set aside where operators see it.

        Raises:
            InvalidUsage: a level would fall below zero, or a total pass 2^53 - 1; nothing was recorded.
            IntakeUnavailable: recorded nowhere.
        """
        if call.finished:
            return Settlement(duplicate=True, meters=call.admission.meters)
        try:
            events = call.events(properties)
            visit("call.before_settle")
            settlement = self._settle(call, events, answer, delivered)
        except InvalidUsage:
            self.release(call)
            raise
        finally:
            self._finish(call)
        visit("call.settled")
        return settlement

    def release(self, call: Call) -> None:
        """Give the reservation back. With Redis away the lease does it by itself."""
        if call.finished:
            return
        self._finish(call)
        if call.offline:
            return
        try:
            self._intake.release(call.admission)
        except IntakeUnavailable:
            return

    def _settle(self, call: Call, events: list[UsageEvent], answer: bytes, delivered: bool) -> Settlement:
        for attempt in range(0 if call.offline else SETTLE_TRIES):
            try:
                return self._intake.settle(call.admission, events, now=self._clock(), answer=answer)
            except UnknownCustomer:
                break  # gone from Redis meanwhile: the inbox keeps the usage, or sets it aside where operators see it
            except InvalidUsage:
                if not delivered:
                    raise
                self.release(call)
                break
            except IntakeUnavailable:
                if attempt == SETTLE_TRIES - 1:
                    break
        # The work is done and may have been counted: the inbox has the same identities, so it counts once.
        self._fallback(events)
        return Settlement(duplicate=False, meters=call.admission.meters)

    def _finish(self, call: Call) -> None:
        call.finished = True
        self._renewer.forget(call.admission)


class Renewer:
    """Renews the leases of all running calls of this process, three times a lease, in one daemon thread."""

    def __init__(self, intake: Intake, clock: Clock) -> None:
        self._intake = intake
        self._clock = clock
        self._running: dict[str, Admission] = {}
        self._lock = threading.Lock()
        self._pid: int | None = None

    @property
    def _interval(self) -> float:
        return self._intake.lease_micros / 3_000_000

    def watch(self, admission: Admission) -> None:
        with self._lock:
            self._running[admission.rid] = admission
            if self._pid != os.getpid():  # a forked web worker starts a thread of its own
                self._pid = os.getpid()
                threading.Thread(target=self._run, name="metering-renewer", daemon=True).start()

    def forget(self, admission: Admission) -> None:
        with self._lock:
            self._running.pop(admission.rid, None)

    def renew_all(self) -> None:
        """Renew what runs now. A lease that is lost stays lost: its settlement is admitted anew or overshoots."""
        with self._lock:
            running = list(self._running.values())
        for admission in running:
            try:
                self._intake.renew(admission, now=self._clock())
            except IntakeUnavailable:
                return

    def _run(self) -> None:
        wait = threading.Event()
        while not wait.wait(self._interval):
            self.renew_all()
