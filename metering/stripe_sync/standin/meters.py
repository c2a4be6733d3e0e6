"""Billing meters. Source: Stripe's API reference, "Billing Meter"."""

from __future__ import annotations

from metering.stripe_sync.standin.announcements import announce
from metering.stripe_sync.standin.endpoint import Call, Endpoint, new_id
from metering.stripe_sync.standin.errors import ApiError
from metering.stripe_sync.standin.pages import PAGE_PARAMETERS, page
from metering.stripe_sync.standin.rules import Choice, Record, Text, parameters
from metering.stripe_sync.standin.store import Document, Store

METERS = "billing.meter"

_DISPLAY_NAME = Text(250)
_CREATE = parameters(
    {
        "display_name": _DISPLAY_NAME,
        "event_name": Text(100),
        "default_aggregation": Record({"formula": Choice(("sum", "count", "last"))}, required=("formula",)),
        "customer_mapping": Record(
            {"type": Choice(("by_id",)), "event_payload_key": Text(100)},
            required=("type", "event_payload_key"),
        ),
        "value_settings": Record({"event_payload_key": Text(100)}, required=("event_payload_key",)),
        "event_time_window": Choice(("day", "hour")),
    },
    required=("display_name", "event_name", "default_aggregation"),
)


def create(call: Call) -> Document:
    _refuse_taken_name(call.store, call.params["event_name"])
    meter = call.save(
        METERS,
        {
            "id": new_id("mtr_test", 32),
            "object": METERS,
            "created": call.timestamp,
            "customer_mapping": call.params.get(
                "customer_mapping", {"event_payload_key": "stripe_customer_id", "type": "by_id"}
            ),
            "default_aggregation": call.params["default_aggregation"],
            "display_name": call.params["display_name"],
            "event_name": call.params["event_name"],
            "event_time_window": call.params.get("event_time_window"),
            "livemode": False,
            "status": "active",
            "status_transitions": {"deactivated_at": None},
            "updated": call.timestamp,
            "value_settings": call.params.get("value_settings", {"event_payload_key": "value"}),
        },
    )
    announce(call, "billing.meter.created", meter)
    return meter


def retrieve(call: Call) -> Document:
    return call.find(METERS, "meter")


def update(call: Call) -> Document:
    meter = call.find(METERS, "meter")
    name = call.params.get("display_name", meter["display_name"])
    changed = call.save(METERS, {**meter, "display_name": name, "updated": call.timestamp})
    announce(call, "billing.meter.updated", changed)
    return changed


def deactivate(call: Call) -> Document:
    """A meter that is inactive already stays as it is."""
    meter = call.find(METERS, "meter")
    return meter if meter["status"] == "inactive" else _switch(call, meter, "inactive", call.timestamp)


def reactivate(call: Call) -> Document:
    """Refused while another active meter has the event name. A meter that is active already stays as it is."""
    meter = call.find(METERS, "meter")
    if meter["status"] == "active":
        return meter
    _refuse_taken_name(call.store, meter["event_name"])
    return _switch(call, meter, "active", None)


def list_all(call: Call) -> Document:
    wanted = call.params.get("status")
    newest_first = reversed(call.store.of(METERS).values())
    return page((m for m in newest_first if wanted in (None, m["status"])), call.path, call.params, "meter")


def active_meter(store: Store, event_name: str) -> Document | None:
    """The one active meter that takes events of this name."""
    meters = store.of(METERS).values()
    return next((m for m in meters if m["event_name"] == event_name and m["status"] == "active"), None)


def latest_meter(store: Store, event_name: str) -> Document | None:
    """The meter that was made last for this event name, active or not."""
    return next((m for m in reversed(store.of(METERS).values()) if m["event_name"] == event_name), None)


def _switch(call: Call, meter: Document, status: str, deactivated_at: int | None) -> Document:
    transitions = {"deactivated_at": deactivated_at}
    changed = call.save(
        METERS, {**meter, "status": status, "status_transitions": transitions, "updated": call.timestamp}
    )
    announce(call, f"billing.meter.{'reactivated' if status == 'active' else 'deactivated'}", changed)
    return changed


def _refuse_taken_name(store: Store, event_name: str) -> None:
    if active_meter(store, event_name):
        raise ApiError(f"An active meter already exists for event name: {event_name}.", param="event_name")


ENDPOINTS = (
    Endpoint("POST", "/v1/billing/meters", _CREATE, create),
    Endpoint(
        "GET",
        "/v1/billing/meters",
        parameters({"status": Choice(("active", "inactive")), **PAGE_PARAMETERS}),
        list_all,
    ),
    Endpoint("GET", "/v1/billing/meters/<id>", parameters(), retrieve),
    Endpoint("POST", "/v1/billing/meters/<id>", parameters({"display_name": _DISPLAY_NAME}), update),
    Endpoint("POST", "/v1/billing/meters/<id>/deactivate", parameters(), deactivate),
    Endpoint("POST", "/v1/billing/meters/<id>/reactivate", parameters(), reactivate),
)
