"""Events: what changed, kept in the same commit as the change, with one delivery for each destination that wants it.

Two kinds, which Stripe keeps apart: snapshot events carry the object as it was then, thin ones carry where to look.
Source: Stripe's API reference, "Events", v1 and v2.
"""

from __future__ import annotations

from typing import Any

from metering.stripe_sync.standin.deliveries import queue
from metering.stripe_sync.standin.endpoint import Call, new_id
from metering.stripe_sync.standin.store import Document
from metering.stripe_sync.standin.v2 import iso
from metering.stripe_sync.standin.version import API_VERSION

EVENTS = "event"
THIN_EVENTS = "v2.core.event"


def announce(call: Call, type: str, object: Document) -> None:
    """Keeps a snapshot event of the object as it is after the change, such as `customer.subscription.updated`.

    Of an update it also keeps the attributes as they were; an update that changed nothing is not announced.
    """
    shown = call.shown(object)
    data: dict[str, Any] = {"object": shown}
    if type.endswith(".updated") and (before := _last_seen(call, object)):
        data["previous_attributes"] = changed = {k: v for k, v in before.items() if shown.get(k) != v}
        if not changed:
            return
    event = {
        "id": new_id("evt", 24),
        "object": "event",
        "api_version": API_VERSION,
        "created": call.timestamp,
        "data": data,
        "livemode": False,
        "request": {"id": None, "idempotency_key": None},
        "type": type,
    }
    queue(call, call.save(EVENTS, event), "snapshot")


def _last_seen(call: Call, object: Document) -> Document | None:
    """The object as this call announced it last, else as it was before the call."""
    for change in reversed(call.changes):
        if change.noun == EVENTS and change.document["data"]["object"].get("id") == object["id"]:
            seen: Document = change.document["data"]["object"]
            return seen
    before = call.store.of(object["object"]).get(object["id"])
    return call.shown(before) if before else None


def announce_thin(call: Call, type: str, data: dict[str, Any] | None, related_object: Document | None) -> Document:
    """Keeps a thin event; `related_object` is the id, type and url of what it is about."""
    event = {
        "id": new_id("evt_test", 48),
        "object": THIN_EVENTS,
        "changes": None,
        "context": None,
        "created": iso(call.now),
        "data": data,
        "livemode": False,
        "reason": None,
        "related_object": related_object,
        "snapshot_event": None,
        "type": type,
    }
    queue(call, call.save(THIN_EVENTS, event), "thin")
    return event
