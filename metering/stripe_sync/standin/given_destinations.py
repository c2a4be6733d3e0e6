"""Destinations whose signing secret is chosen beforehand, for a product whose settings name it before anything runs.

There is one for each payload: given again, with another URL perhaps, it changes, and what waits for it goes there.
"""

from __future__ import annotations

from collections.abc import Sequence

from metering.stripe_sync.standin.destinations import Url
from metering.stripe_sync.standin.endpoint import Call
from metering.stripe_sync.standin.event_destinations import make_destination
from metering.stripe_sync.standin.webhook_endpoints import make_endpoint

IDS = {"snapshot": "we_given", "thin": "ed_given"}


def give_destination(call: Call, url: str, payload: str, secret: str, enabled_events: Sequence[str] = ("*",)) -> str:
    """Its id; `payload` is snapshot or thin. Raises an ApiError for what is no URL."""
    url, types, id = Url().read(url, "url"), list(enabled_events), IDS[payload]
    if payload == "snapshot":
        make_endpoint(call, {"url": url, "enabled_events": types}, secret, id)
    else:
        target = {"type": "webhook_endpoint", "webhook_endpoint": {"url": url}}
        make_destination(
            call, {"name": "Given", "event_payload": payload, "enabled_events": types, **target}, secret, id
        )
    return id
