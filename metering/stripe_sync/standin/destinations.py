"""Where events go: v1 webhook endpoints and v2 event destinations, seen as one kind of thing.

A deleted one stays in the store as what Stripe answers of it, with `deleted` set. Signing secrets are kept beside the
documents, since Stripe shows a secret once.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from metering.stripe_sync.standin.errors import ApiError
from metering.stripe_sync.standin.params import Raw
from metering.stripe_sync.standin.store import Document, Store

WEBHOOK_ENDPOINTS = "webhook_endpoint"
EVENT_DESTINATIONS = "v2.core.event_destination"
SECRETS = "signing_secret"


@dataclass(frozen=True)
class Destination:
    """`payload` is snapshot or thin."""

    id: str
    url: str
    payload: str
    types: tuple[str, ...]
    enabled: bool

    def wants(self, type: str) -> bool:
        return self.enabled and ("*" in self.types or type in self.types)


def destinations(store: Store) -> Iterator[Destination]:
    """All that are not deleted, oldest first, webhook endpoints before event destinations."""
    for noun in (WEBHOOK_ENDPOINTS, EVENT_DESTINATIONS):
        yield from (destination_of(document) for document in alive(store, noun))


def destination_of(document: dict[str, Any]) -> Destination:
    if document["object"] == WEBHOOK_ENDPOINTS:
        url, payload = document["url"], "snapshot"
    else:
        url, payload = document["webhook_endpoint"]["url"], document["event_payload"]
    return Destination(document["id"], url, payload, tuple(document["enabled_events"]), document["status"] == "enabled")


def alive(store: Store, noun: str) -> list[Document]:
    return [document for document in store.of(noun).values() if not document.get("deleted")]


def find_destination(store: Store, id: str) -> Destination | None:
    return next((one for one in destinations(store) if one.id == id), None)


class Holder(Protocol):
    """The store, or a call with its own changes."""

    def get(self, noun: str, id: str) -> Document | None: ...


def secret_of(holder: Holder, id: str) -> str:
    """Raises KeyError for what is no destination."""
    found = holder.get(SECRETS, id)
    if found is None:
        raise KeyError(id)
    secret: str = found["secret"]
    return secret


def new_secret() -> str:
    return f"whsec_{secrets.token_urlsafe(24)}"


@dataclass(frozen=True)
class Url:
    """An http or https URL. Stripe refuses addresses it can't reach from outside; here they are what is wanted."""

    def read(self, raw: Raw, name: str) -> str:
        if not isinstance(raw, str) or not re.fullmatch(r"https?://[^\s/?#]+[^\s]*", raw):
            raise ApiError("Invalid URL: An explicit scheme (such as https) must be provided.", param=name)
        return raw


@dataclass(frozen=True)
class EventType:
    """A type of snapshot events that Stripe knows, or `*`. Source: `event_types.txt`, the API reference's list."""

    def read(self, raw: Raw, name: str) -> str:
        if not isinstance(raw, str) or (raw != "*" and raw not in snapshot_types()):
            raise ApiError(f"Invalid {name}: {raw} is no type of event", param=name)
        return raw


@dataclass(frozen=True)
class ThinEventType:
    """A type of thin events, or `*`; which there are is not checked."""

    def read(self, raw: Raw, name: str) -> str:
        if not isinstance(raw, str) or (raw != "*" and not re.fullmatch(r"v[12](\.[a-z0-9_]+(\[[a-z_.]+\])?)+", raw)):
            raise ApiError(f"Invalid {name}: {raw} is no type of event", param=name)
        return raw


@cache
def snapshot_types() -> frozenset[str]:
    return frozenset(Path(__file__).with_name("event_types.txt").read_text(encoding="ascii").split())
