"""Searching customers by one field of their metadata: other queries of Stripe's search language are refused.

Unlike Stripe's own it sees everything at once. Source: Stripe's page "Search".
"""

from __future__ import annotations

import re

from metering.stripe_sync.standin.customers import CUSTOMERS
from metering.stripe_sync.standin.endpoint import Call, Endpoint
from metering.stripe_sync.standin.errors import ApiError
from metering.stripe_sync.standin.rules import Integer, Text, parameters
from metering.stripe_sync.standin.store import Document

_QUERY = re.compile(r"metadata\[(['\"])([^'\"]+)\1\]:(['\"])([^'\"]*)\3")
_SEARCH = parameters({"query": Text(), "limit": Integer(1, 100), "page": Text()}, required=("query",))


def search(call: Call) -> Document:
    """One page, newest first."""
    asked = _QUERY.fullmatch(call.params["query"])
    if asked is None or "page" in call.params:
        raise ApiError("The stand-in searches customers by one field of their metadata alone.", param="query")
    _, key, _, value = asked.groups()
    newest_first = reversed(call.store.of(CUSTOMERS).values())
    found = [one for one in newest_first if not one.get("deleted") and one["metadata"].get(key) == value]
    limit = call.params.get("limit", 10)
    return {
        "object": "search_result",
        "data": found[:limit],
        "has_more": len(found) > limit,
        "next_page": None,
        "url": call.path,
    }


ENDPOINTS = (Endpoint("GET", "/v1/customers/search", _SEARCH, search),)
