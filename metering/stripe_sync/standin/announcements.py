"""Events: what Stripe announces of each change, kept in the same commit as the change.

Source: Stripe's API reference, "Events".
"""

from __future__ import annotations

from metering.stripe_sync.standin.endpoint import Call, new_id
from metering.stripe_sync.standin.store import Document
from metering.stripe_sync.standin.version import API_VERSION

EVENTS = "event"


def announce(call: Call, type: str, object: Document) -> None:
    """Keeps an event of this type, such as `customer.subscription.updated`, with the object as it is now."""
    call.save(
        EVENTS,
        {
            "id": new_id("evt", 24),
            "object": "event",
            "api_version": API_VERSION,
            "created": call.timestamp,
            "data": {"object": call.shown(object)},
            "livemode": False,
            "pending_webhooks": 0,
            "request": {"id": None, "idempotency_key": None},
            "type": type,
        },
    )
