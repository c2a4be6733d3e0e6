"""Deliveries: one for each event and destination that wants it, kept until the destination has answered 2xx.

Times of attempts are the machine's, not those of the stand-in's clock: a receiver answers in real time, and a clock
that a test moved must neither hurry nor stop the retries.
Source of the three days: Stripe's page on webhooks. The steps of the back-off are our own; Stripe doesn't say its.
"""

from __future__ import annotations

from metering.stripe_sync.standin.destinations import Destination, destinations
from metering.stripe_sync.standin.endpoint import Call, new_id
from metering.stripe_sync.standin.store import Change, Document

DELIVERIES = "delivery"
GIVE_UP_SECONDS = 3 * 24 * 3600
LONGEST_WAIT_SECONDS = 300


def queue(call: Call, event: Document, payload: str) -> None:
    """Keeps one delivery of the event for each enabled destination with that payload that wants its type."""
    for destination in destinations(call.store):
        if destination.payload == payload and destination.wants(event["type"]):
            queue_for(call, event, destination)


def queue_for(call: Call, event: Document, destination: Destination) -> None:
    call.save(
        DELIVERIES,
        {
            "id": new_id("dlv", 16),
            "event": event["id"],
            "event_noun": event["object"],
            "event_type": event["type"],
            "destination": destination.id,
            "url": destination.url,
            "status": "pending",
            "attempts": 0,
            "first_attempt_at": None,
            "next_attempt_at": 0.0,
            "answer": None,
        },
    )


def after_attempt(delivery: Document, answer: int | str, at: float) -> Document:
    """The delivery after an attempt that got an HTTP status, or else a word on why there was none."""
    first, attempts = delivery["first_attempt_at"] or at, delivery["attempts"] + 1
    tried = {**delivery, "attempts": attempts, "first_attempt_at": first, "answer": answer}
    if delivery["status"] == "delivered" or (isinstance(answer, int) and 200 <= answer < 300):
        return {**tried, "status": "delivered"}
    if at - first >= GIVE_UP_SECONDS:
        return {**tried, "status": "failed"}
    return {**tried, "next_attempt_at": at + wait_seconds(attempts)}


def given_up(delivery: Document, reason: str) -> Document:
    return {**delivery, "status": "failed", "answer": reason}


def wait_seconds(attempts: int) -> float:
    """1, 2, 4 … seconds after the first, second, third … attempt, and at most five minutes."""
    return float(min(2 ** min(attempts - 1, 16), LONGEST_WAIT_SECONDS))


class PendingDeliveries:
    """The deliveries that are still to be made, oldest first; it hears of each one through `watch`."""

    def __init__(self) -> None:
        self._pending: dict[str, Document] = {}

    def watch(self, change: Change) -> None:
        if change.noun != DELIVERIES:
            return
        if change.document["status"] == "pending":
            self._pending[change.id] = change.document
        else:
            self._pending.pop(change.id, None)

    def due(self, at: float) -> list[str]:
        return [id for id in self._pending if self.is_due(id, at)]

    def is_due(self, id: str, at: float) -> bool:
        delivery = self._pending.get(id)
        return delivery is not None and delivery["next_attempt_at"] <= at

    def all(self) -> list[str]:
        return list(self._pending)
