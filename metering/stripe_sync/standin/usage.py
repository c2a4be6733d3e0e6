"""Meter events in the order of receipt, found by identifier and by meter and customer, and added up exactly.

Always true: an identifier finds the latest event received under it; a cancelled or failed event counts nowhere.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any

from metering.stripe_sync.standin.store import Change

EVENTS = "meter_event"
HOUR_SECONDS = 3600

# A payload value has at most 500 characters, so no sum of them comes near this precision; rounding would raise.
_EXACT = Context(prec=10_000, traps=[Inexact, InvalidOperation])


@dataclass(frozen=True)
class Event:
    """One meter event as received. `error` is the code of an asynchronous error, `value` None where there is none."""

    id: str
    identifier: str
    event_name: str
    meter: str
    customer: str
    value: Decimal | None
    timestamp: int
    received_at: float
    cancelled_at: float | None
    error: str | None

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Event:
        value = document["value"]
        return cls(**{**document, "value": None if value is None else Decimal(value)})

    def counts_at(self, time: float) -> bool:
        """Whether the event is counted by what was known at that time."""
        cancelled = self.cancelled_at is not None and self.cancelled_at <= time
        return self.error is None and self.received_at <= time and not cancelled


@dataclass(frozen=True)
class HourTotal:
    meter: str
    event_name: str
    customer: str
    hour: int
    events: int
    total: str


class Usage:
    """An index over the store's meter events; it hears of each one through `watch`.

    `failed` are the ids of those with an asynchronous error, in the order of receipt; none ever leaves.
    """

    def __init__(self) -> None:
        self.events: dict[str, Event] = {}
        self.failed: list[str] = []
        self._by_identifier: dict[str, str] = {}
        self._by_series: dict[tuple[str, str], dict[str, Event]] = defaultdict(dict)

    def watch(self, change: Change) -> None:
        if change.noun != EVENTS:
            return
        event = Event.from_document(change.document)
        if event.error and event.id not in self.events:
            self.failed.append(event.id)
        self.events[event.id] = event
        self._by_identifier[event.identifier] = event.id
        self._by_series[event.meter, event.customer][event.id] = event

    def find(self, identifier: str) -> Event | None:
        """The latest event received under this identifier."""
        found = self._by_identifier.get(identifier)
        return None if found is None else self.events[found]

    def counted(self, meter: str, customer: str, start: int, end: int, known_at: float) -> list[Event]:
        """The events of a meter and customer with start <= timestamp < end, by what was known at a time."""
        series = self._by_series.get((meter, customer), {})
        return [event for event in series.values() if start <= event.timestamp < end and event.counts_at(known_at)]

    def hour_totals(self, formulas: dict[str, str]) -> Iterator[HourTotal]:
        """One total for each meter, customer and UTC hour that has counted events, ordered by name, customer, hour."""
        names = {event.meter: event.event_name for event in self.events.values()}
        for meter, customer in sorted(self._by_series, key=lambda series: (names[series[0]], series)):
            hours: dict[int, list[Event]] = defaultdict(list)
            for event in self._by_series[meter, customer].values():
                if event.counts_at(math.inf):
                    hours[event.timestamp - event.timestamp % HOUR_SECONDS].append(event)
            for hour in sorted(hours):
                total = aggregate(formulas[meter], hours[hour])
                yield HourTotal(meter, names[meter], customer, hour, len(hours[hour]), format(total, "f"))


def aggregate(formula: str, events: Iterable[Event]) -> Decimal:
    """The value of a meter over events; zero where there are none.

    `last` is the event with the latest timestamp, the one received later if several have it.
    """
    counted = list(events)
    if formula == "count":
        return Decimal(len(counted))
    values = [(event.timestamp, event.received_at, event.value) for event in counted if event.value is not None]
    if formula == "last":
        return max(values, key=lambda value: value[:2])[2] if values else Decimal(0)
    total = Decimal(0)
    for _, _, value in values:
        total = _EXACT.add(total, value)
    return total
