"""What Stripe's API v2 does otherwise: bodies are JSON, times are text, pages are URLs, nothing is expanded."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from metering.stripe_sync.standin.errors import ApiError
from metering.stripe_sync.standin.params import Pairs
from metering.stripe_sync.standin.rules import Integer, Rule, Text
from metering.stripe_sync.standin.store import Document

# The library's types know no `page`: a client follows `next_page_url`, which has it.
PAGE_PARAMETERS: dict[str, Rule] = {"limit": Integer(1, 100), "page": Text(pattern="[0-9]{1,9}")}


def iso(time: float) -> str:
    """Unix seconds as text: UTC, milliseconds, Z."""
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def page(documents: Iterable[Document], path: str, params: dict[str, Any]) -> Document:
    """A page of documents that come newest first; its URLs carry on every other parameter that was sent."""
    found, limit, start = list(documents), params.get("limit", 20), int(params.get("page", 0))

    def url(place: int) -> str | None:
        kept = {name: value for name, value in params.items() if name != "page"}
        return f"{path}?{urlencode([*_pairs(kept, ''), ('page', place)])}" if 0 <= place < len(found) else None

    return {
        "data": found[start : start + limit],
        "next_page_url": url(start + limit),
        "previous_page_url": url(max(0, start - limit)) if start else None,
    }


def json_pairs(body: Any) -> Pairs:
    """A JSON object as the form that Stripe's v1 would take for it. Raises an ApiError when it is none."""
    if not isinstance(body, dict):
        raise ApiError("Invalid request: the body must be a JSON object.")
    return _pairs(body, "")


def _pairs(value: Any, name: str) -> Pairs:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [pair for key, inner in items for pair in _pairs(inner, f"{name}[{key}]" if name else str(key))]
    if isinstance(value, bool):
        return [(name, str(value).lower())]
    return [(name, "" if value is None else str(value))]
