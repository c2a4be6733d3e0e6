"""Webhook endpoints: URLs that get snapshot events. The signing secret is answered once, when one is created.

Source: Stripe's API reference, "Webhook Endpoints".
"""

from __future__ import annotations

from typing import Any

from metering.stripe_sync.standin.destinations import (
    SECRETS,
    WEBHOOK_ENDPOINTS,
    EventType,
    Url,
    alive,
    new_secret,
)
from metering.stripe_sync.standin.endpoint import Call, Endpoint, new_id
from metering.stripe_sync.standin.errors import no_such
from metering.stripe_sync.standin.metadata import METADATA, merged
from metering.stripe_sync.standin.pages import PAGE_PARAMETERS, page
from metering.stripe_sync.standin.rules import Flag, Many, Record, Rule, Text, parameters
from metering.stripe_sync.standin.store import Document

_SHARED: dict[str, Rule] = {
    "description": Text(unset=True),
    "enabled_events": Many(EventType()),
    "metadata": METADATA,
    "url": Url(),
}
_CREATE = parameters(
    {**_SHARED, "api_version": Text(pattern=r"[0-9]{4}-[0-9]{2}-[0-9]{2}(\.[a-z]+)?"), "connect": Flag()},
    required=("enabled_events", "url"),
)
_UPDATE = parameters({**_SHARED, "disabled": Flag()})


def create(call: Call) -> Document:
    secret = new_secret()
    return {**make_endpoint(call, call.params, secret), "secret": secret}


def make_endpoint(call: Call, params: dict[str, Any], secret: str, id: str | None = None) -> Document:
    endpoint = {
        "id": id or new_id("we", 24),
        "object": "webhook_endpoint",
        "api_version": params.get("api_version"),
        "application": None,
        "created": call.timestamp,
        "description": params.get("description"),
        "enabled_events": params["enabled_events"],
        "livemode": False,
        "metadata": merged({}, params.get("metadata")),
        "status": "enabled",
        "url": params["url"],
    }
    call.save(SECRETS, {"id": endpoint["id"], "secret": secret})
    return call.save(WEBHOOK_ENDPOINTS, endpoint)


def retrieve(call: Call) -> Document:
    endpoint = call.find(WEBHOOK_ENDPOINTS, "webhook endpoint")
    if endpoint.get("deleted"):
        raise no_such("webhook endpoint", endpoint["id"])
    return endpoint


def update(call: Call) -> Document:
    endpoint, params = dict(retrieve(call)), call.params
    for name in ("description", "enabled_events", "url"):
        if name in params:
            endpoint[name] = params[name]
    if "disabled" in params:
        endpoint["status"] = "disabled" if params["disabled"] else "enabled"
    endpoint["metadata"] = merged(endpoint["metadata"], params.get("metadata"))
    return call.save(WEBHOOK_ENDPOINTS, endpoint)


def delete(call: Call) -> Document:
    return call.save(WEBHOOK_ENDPOINTS, {"id": retrieve(call)["id"], "object": "webhook_endpoint", "deleted": True})


def list_all(call: Call) -> Document:
    newest_first = reversed(alive(call.store, WEBHOOK_ENDPOINTS))
    return page(newest_first, call.path, call.params, "webhook endpoint")


ENDPOINTS = (
    Endpoint("POST", "/v1/webhook_endpoints", _CREATE, create),
    Endpoint("GET", "/v1/webhook_endpoints", parameters(PAGE_PARAMETERS), list_all),
    Endpoint("GET", "/v1/webhook_endpoints/<id>", parameters(), retrieve),
    Endpoint("POST", "/v1/webhook_endpoints/<id>", _UPDATE, update),
    Endpoint("DELETE", "/v1/webhook_endpoints/<id>", Record(), delete),
)
