"""Thin events, fetched whole. Source: Stripe's API reference, "Events" of v2."""

from __future__ import annotations

from typing import Any

from metering.stripe_sync.standin.announcements import THIN_EVENTS
from metering.stripe_sync.standin.endpoint import Call, Endpoint
from metering.stripe_sync.standin.rules import Many, Record, Text
from metering.stripe_sync.standin.store import Document
from metering.stripe_sync.standin.v2 import PAGE_PARAMETERS, page

_TIME = Text(pattern=r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
_LIST = Record(
    {
        "created": Record(dict.fromkeys(("gt", "gte", "lt", "lte"), _TIME)),
        "object_id": Text(),
        "types": Many(Text()),
        **PAGE_PARAMETERS,
    }
)


def retrieve(call: Call) -> Document:
    return call.find(THIN_EVENTS, "event")


def list_all(call: Call) -> Document:
    newest_first = reversed(call.store.of(THIN_EVENTS).values())
    return page((event for event in newest_first if _is_chosen(event, call.params)), call.path, call.params)


def _is_chosen(event: Document, params: dict[str, Any]) -> bool:
    """Times of this one form compare as text."""
    at: str = event["created"]
    tests = {"gt": at.__gt__, "gte": at.__ge__, "lt": at.__lt__, "lte": at.__le__}
    return (
        ("types" not in params or event["type"] in params["types"])
        and params.get("object_id") in (None, (event["related_object"] or {}).get("id"))
        and all(tests[name](limit) for name, limit in params.get("created", {}).items())
    )


ENDPOINTS = (
    Endpoint("GET", "/v2/core/events", _LIST, list_all),
    Endpoint("GET", "/v2/core/events/<id>", Record(), retrieve),
)
