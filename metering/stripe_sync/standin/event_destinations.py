"""Event destinations of API v2, of the kind `webhook_endpoint`: URLs that get thin events, or snapshot ones.

The URL and the signing secret are answered only where `include` asks for them, the secret only at creation.
Source: Stripe's API reference, "Event Destinations".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from metering.stripe_sync.standin.announcements import announce_thin
from metering.stripe_sync.standin.deliveries import queue_for
from metering.stripe_sync.standin.destinations import (
    EVENT_DESTINATIONS,
    SECRETS,
    EventType,
    ThinEventType,
    Url,
    alive,
    destination_of,
    new_secret,
    secret_of,
)
from metering.stripe_sync.standin.endpoint import Call, Endpoint, new_id
from metering.stripe_sync.standin.errors import missing_parameter, no_such
from metering.stripe_sync.standin.metadata import METADATA, NEW_METADATA, merged
from metering.stripe_sync.standin.rules import Choice, Many, Record, Rule, Text, unserved
from metering.stripe_sync.standin.store import Document
from metering.stripe_sync.standin.v2 import PAGE_PARAMETERS, iso, page

_URL = "webhook_endpoint.url"
_SIGNING = "webhook_endpoint.signing_secret"
_INCLUDE = Many(Choice((_URL,)))
_WEBHOOK_ENDPOINT = Record({"url": Url()}, required=("url",))
_TYPES: dict[str, Rule] = {"snapshot": EventType(), "thin": ThinEventType()}

_CREATE = Record(
    {
        "description": Text(),
        "enabled_events": Many(Text()),
        "event_payload": Choice(("snapshot", "thin")),
        "events_from": Many(Choice(("@self",))),
        "include": Many(Choice((_SIGNING, _URL))),
        "metadata": NEW_METADATA,
        "name": Text(),
        "snapshot_api_version": Text(),
        "type": Choice(("webhook_endpoint",)),
        "webhook_endpoint": _WEBHOOK_ENDPOINT,
        **unserved("amazon_eventbridge", "azure_event_grid"),
    },
    required=("enabled_events", "event_payload", "name", "type"),
)
_UPDATE = Record(
    {
        "description": Text(),
        "enabled_events": Many(Text()),
        "include": _INCLUDE,
        "metadata": METADATA,
        "name": Text(),
        "webhook_endpoint": _WEBHOOK_ENDPOINT,
    }
)


def create(call: Call) -> Document:
    if "webhook_endpoint" not in call.params:
        raise missing_parameter("webhook_endpoint")
    return _shown(call, make_destination(call, call.params, new_secret()))


def make_destination(call: Call, params: dict[str, Any], secret: str, id: str | None = None) -> Document:
    _check_types(params["enabled_events"], params["event_payload"])
    destination = {
        "id": id or new_id("ed_test", 48),
        "object": EVENT_DESTINATIONS,
        "created": iso(call.now),
        "description": params.get("description", ""),
        "enabled_events": params["enabled_events"],
        "event_payload": params["event_payload"],
        "events_from": params.get("events_from", ["@self"]),
        "livemode": False,
        "metadata": params.get("metadata", {}),
        "name": params["name"],
        "snapshot_api_version": params.get("snapshot_api_version"),
        "status": "enabled",
        "status_details": None,
        "type": params["type"],
        "updated": iso(call.now),
        "webhook_endpoint": {"url": params["webhook_endpoint"]["url"]},
    }
    call.save(SECRETS, {"id": destination["id"], "secret": secret})
    return call.save(EVENT_DESTINATIONS, destination)


def retrieve(call: Call) -> Document:
    return _shown(call, _find(call))


def update(call: Call) -> Document:
    destination, params = _find(call), call.params
    _check_types(params.get("enabled_events", ()), destination["event_payload"])
    sent = {name: value for name, value in params.items() if name not in ("include", "metadata")}
    metadata = merged(destination["metadata"], params.get("metadata"))
    return _shown(call, _change(call, {**destination, **sent, "metadata": metadata}))


def delete(call: Call) -> Document:
    gone = {"id": _find(call)["id"], "object": EVENT_DESTINATIONS}
    call.save(EVENT_DESTINATIONS, {**gone, "deleted": True})
    return gone


def disable(call: Call) -> Document:
    details = {"disabled": {"reason": "user"}}
    return _shown(call, _change(call, {**_find(call), "status": "disabled", "status_details": details}))


def enable(call: Call) -> Document:
    return _shown(call, _change(call, {**_find(call), "status": "enabled", "status_details": None}))


def ping(call: Call) -> Document:
    """Sends this destination an event, whatever events it asks for, and answers it."""
    destination = _find(call)
    related = {
        "id": destination["id"],
        "type": EVENT_DESTINATIONS,
        "url": f"/v2/core/event_destinations/{destination['id']}",
    }
    event = announce_thin(call, "v2.core.event_destination.ping", None, related)
    queue_for(call, event, destination_of(destination))
    return event


def list_all(call: Call) -> Document:
    newest_first = reversed(alive(call.store, EVENT_DESTINATIONS))
    return page((_shown(call, one) for one in newest_first), call.path, call.params)


def _find(call: Call) -> Document:
    destination = call.find(EVENT_DESTINATIONS, "event destination")
    if destination.get("deleted"):
        raise no_such("event destination", destination["id"])
    return destination


def _change(call: Call, destination: Document) -> Document:
    return call.save(EVENT_DESTINATIONS, {**destination, "updated": iso(call.now)})


def _shown(call: Call, destination: Document) -> Document:
    include = call.params.get("include", ())
    url = destination["webhook_endpoint"]["url"] if _URL in include else None
    secret = secret_of(call, destination["id"]) if _SIGNING in include else None
    return {**destination, "webhook_endpoint": {"signing_secret": secret, "url": url}}


def _check_types(types: Iterable[str], payload: str) -> None:
    for place, type in enumerate(types):
        _TYPES[payload].read(type, f"enabled_events[{place}]")


_PATH = "/v2/core/event_destinations"
ENDPOINTS = (
    Endpoint("POST", _PATH, _CREATE, create),
    Endpoint("GET", _PATH, Record({"include": _INCLUDE, **PAGE_PARAMETERS}), list_all),
    Endpoint("GET", f"{_PATH}/<id>", Record({"include": _INCLUDE}), retrieve),
    Endpoint("POST", f"{_PATH}/<id>", _UPDATE, update),
    Endpoint("DELETE", f"{_PATH}/<id>", Record(), delete),
    Endpoint("POST", f"{_PATH}/<id>/disable", Record(), disable),
    Endpoint("POST", f"{_PATH}/<id>/enable", Record(), enable),
    Endpoint("POST", f"{_PATH}/<id>/ping", Record(), ping),
)
