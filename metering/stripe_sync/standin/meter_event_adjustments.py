"""Adjustments: a meter event is taken back, within 24 hours of its receipt.

Source: Stripe's API reference, "Meter Event Adjustment".
"""

from __future__ import annotations

from dataclasses import replace

from metering.stripe_sync.standin.endpoint import Call, Endpoint
from metering.stripe_sync.standin.errors import ApiError, missing_parameter, no_such
from metering.stripe_sync.standin.meter_events import save_event
from metering.stripe_sync.standin.rules import Choice, Record, Text, parameters
from metering.stripe_sync.standin.store import Document

CANCEL_SECONDS = 24 * 3600

_CREATE = parameters(
    {
        "event_name": Text(100),
        "type": Choice(("cancel",)),
        "cancel": Record({"identifier": Text(100)}),
    },
    required=("event_name", "type"),
)


def create(call: Call) -> Document:
    """An event that was cancelled already stays so; the answer is the same."""
    identifier = call.params.get("cancel", {}).get("identifier")
    if identifier is None:
        raise missing_parameter("cancel[identifier]")
    event = call.usage.find(identifier)
    if event is None or event.event_name != call.params["event_name"]:
        raise no_such("meter event", identifier, param="cancel[identifier]")
    if call.now - event.received_at > CANCEL_SECONDS:
        raise ApiError(
            f"The event with identifier {identifier} was received more than 24 hours ago and can't be cancelled.",
            param="cancel[identifier]",
        )
    if event.cancelled_at is None:
        save_event(call, replace(event, cancelled_at=call.now))
    return {
        "object": "billing.meter_event_adjustment",
        "cancel": {"identifier": identifier},
        "event_name": event.event_name,
        "livemode": False,
        "status": "complete",
        "type": "cancel",
    }


ENDPOINTS = (Endpoint("POST", "/v1/billing/meter_event_adjustments", _CREATE, create),)
