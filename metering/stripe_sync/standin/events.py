"""Snapshot events, to read again. Source: Stripe's API reference, "Events"."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from metering.stripe_sync.standin.announcements import EVENTS
from metering.stripe_sync.standin.deliveries import DELIVERIES
from metering.stripe_sync.standin.endpoint import Call, Endpoint
from metering.stripe_sync.standin.errors import ApiError
from metering.stripe_sync.standin.pages import CREATED, PAGE_PARAMETERS, is_created_in, page
from metering.stripe_sync.standin.rules import Flag, Many, Text, parameters
from metering.stripe_sync.standin.store import Document

MAX_TYPES = 20

_LIST = parameters(
    {
        "created": CREATED,
        "delivery_success": Flag(),
        "type": Text(),
        "types": Many(Text()),
        **PAGE_PARAMETERS,
    }
)


def retrieve(call: Call) -> Document:
    event = call.find(EVENTS, "event")
    return {**event, "pending_webhooks": _open_deliveries(call).get(event["id"], 0)}


def list_all(call: Call) -> Document:
    """Newest first. `type` may end in `*`; `types` and `type` exclude each other."""
    params = call.params
    if "type" in params and "types" in params:
        raise ApiError("You may only specify one of these parameters: type, types.", param="types")
    if len(params.get("types", ())) > MAX_TYPES:
        raise ApiError(f"You can pass at most {MAX_TYPES} types.", param="types")
    open_deliveries = _open_deliveries(call)
    chosen = [
        {**event, "pending_webhooks": open_deliveries.get(event["id"], 0)}
        for event in reversed(call.store.of(EVENTS).values())
        if _is_chosen(event, params)
    ]
    if (wanted := params.get("delivery_success")) is not None:
        undelivered = {one["event"] for one in call.store.of(DELIVERIES).values() if one["status"] != "delivered"}
        chosen = [event for event in chosen if (event["id"] not in undelivered) is wanted]
    return page(chosen, call.path, params, "event")


def _is_chosen(event: Document, params: dict[str, Any]) -> bool:
    types = params.get("types")
    return (
        fnmatchcase(event["type"], params.get("type", "*"))
        and (types is None or event["type"] in types)
        and is_created_in(event, params)
    )


def _open_deliveries(call: Call) -> dict[str, int]:
    """How many deliveries each event still waits for."""
    counts: dict[str, int] = {}
    for delivery in call.store.of(DELIVERIES).values():
        if delivery["status"] == "pending":
            counts[delivery["event"]] = counts.get(delivery["event"], 0) + 1
    return counts


ENDPOINTS = (
    Endpoint("GET", "/v1/events", _LIST, list_all),
    Endpoint("GET", "/v1/events/<id>", parameters(), retrieve),
)
