"""Cursor pages: newest first, 1 to 100 a page, 10 by default. Source: Stripe's page "Pagination"."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from metering.stripe_sync.standin.errors import no_such
from metering.stripe_sync.standin.rules import Either, Integer, Record, Rule, Text
from metering.stripe_sync.standin.store import Document

PAGE_PARAMETERS: dict[str, Rule] = {
    "limit": Integer(1, 100),
    "starting_after": Text(),
    "ending_before": Text(),
}
CREATED = Either(Integer(), Record({name: Integer() for name in ("gt", "gte", "lt", "lte")}))


def is_created_in(document: Document, params: dict[str, Any]) -> bool:
    """Whether the parameter `created`, where it was sent, lets the document through."""
    return is_within(document["created"], params.get("created", {}))


def is_within(at: int, limits: int | dict[str, int]) -> bool:
    """Whether a time is the one that was asked for, or lies between the limits: gt, gte, lt, lte."""
    if isinstance(limits, int):
        return at == limits
    tests = {"gt": at.__gt__, "gte": at.__ge__, "lt": at.__lt__, "lte": at.__le__}
    return all(tests[name](limit) for name, limit in limits.items())


def page(documents: Iterable[Document], path: str, params: dict[str, Any], noun: str) -> Document:
    """A page of documents that come newest first. A cursor that names none of them is refused."""
    found = list(documents)
    limit = params.get("limit", 10)
    if "ending_before" in params:
        end = _place(found, params["ending_before"], "ending_before", noun)
        data, has_more = found[max(0, end - limit) : end], end > limit
    else:
        start = _place(found, params["starting_after"], "starting_after", noun) + 1 if "starting_after" in params else 0
        data, has_more = found[start : start + limit], len(found) > start + limit
    return {"object": "list", "data": data, "has_more": has_more, "url": path}


def _place(documents: list[Document], cursor: str, param: str, noun: str) -> int:
    for place, document in enumerate(documents):
        if document["id"] == cursor:
            return place
    raise no_such(noun, cursor, param=param)
