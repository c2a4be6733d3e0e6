"""Rehearsal: metered calls run as ever, but nobody is refused, nothing is recorded and no server is needed.

What would have been counted is kept in a list. It is how a host's own tests run; see `metering.testing`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from metering.calls.call import Call
from metering.catalog import Catalog
from metering.intake.event import UsageEvent
from metering.intake.values import Settlement


@dataclass(frozen=True, slots=True)
class Counted:
    """Usage that would have been recorded. `quantity` is in the meter's unit; `customer` is None for nobody in
    particular: callers known by API keys are not looked up."""

    customer: str | None
    meter: str
    quantity: Decimal
    properties: Mapping[str, Any] = field(default_factory=dict)


class Rehearsal:
    """Stands where `Calls` stands otherwise."""

    def __init__(self) -> None:
        self.counted: list[Counted] = []

    def settle(
        self, call: Call, properties: Mapping[str, Any], *, answer: bytes = b"", delivered: bool = False
    ) -> Settlement:
        if not call.finished:
            call.finished = True
            for event in call.events(properties):
                self.count(event, call.catalog, properties)
        return Settlement(duplicate=False, meters=call.admission.meters)

    def release(self, call: Call) -> None:
        call.finished = True

    def count(self, event: UsageEvent, catalog: Catalog, properties: Mapping[str, Any]) -> None:
        quantity = catalog.meter(event.meter).to_quantity(event.units)
        self.counted.append(Counted(event.customer or None, event.meter, quantity, dict(properties)))


_running: list[Rehearsal] = []


def running() -> Rehearsal | None:
    """The rehearsal that is on, if any."""
    return _running[-1] if _running else None


@contextmanager
def rehearse() -> Iterator[Rehearsal]:
    """Rehearse all metered calls of this process until the end of the block."""
    rehearsal = Rehearsal()
    _running.append(rehearsal)
    try:
        yield rehearsal
    finally:
        _running.remove(rehearsal)
