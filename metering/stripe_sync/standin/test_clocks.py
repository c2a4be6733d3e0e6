"""Test clocks: a time of their own for the customers that are bound to one, moved forward only by hand.

An advance is answered before it is done, as Stripe does it; what comes due on the way happens in its order.
Source: Stripe's API reference, "Test Clocks".
"""

from __future__ import annotations

from dataclasses import replace

from metering.stripe_sync.standin.announcements import announce
from metering.stripe_sync.standin.endpoint import Call, Endpoint, new_id
from metering.stripe_sync.standin.errors import ApiError
from metering.stripe_sync.standin.pages import PAGE_PARAMETERS, page
from metering.stripe_sync.standin.periods import DAY_SECONDS
from metering.stripe_sync.standin.rules import Integer, Text, parameters, unserved
from metering.stripe_sync.standin.store import Document

TEST_CLOCKS = "test_helpers.test_clock"
_KEPT_DAYS = 30


def create(call: Call) -> Document:
    clock = call.save(
        TEST_CLOCKS,
        {
            "id": new_id("clock", 24),
            "object": TEST_CLOCKS,
            "created": call.timestamp,
            "deletes_after": call.timestamp + _KEPT_DAYS * DAY_SECONDS,
            "frozen_time": call.params["frozen_time"],
            "livemode": False,
            "name": call.params.get("name"),
            "status": "ready",
            "status_details": {},
        },
    )
    announce(call, "test_helpers.test_clock.created", clock)
    return clock


def retrieve(call: Call) -> Document:
    return call.find(TEST_CLOCKS, "test clock")


def list_all(call: Call) -> Document:
    return page(reversed(call.all(TEST_CLOCKS)), call.path, call.params, "test clock")


def advance(call: Call) -> Document:
    """Only sets out; see `finish`."""
    clock, target = call.find(TEST_CLOCKS, "test clock"), call.params["frozen_time"]
    if target <= clock["frozen_time"]:
        raise ApiError("`frozen_time` must be after the current frozen time of the test clock.", param="frozen_time")
    details = {"advancing": {"target_frozen_time": target}}
    changed = call.save(TEST_CLOCKS, {**clock, "status": "advancing", "status_details": details})
    announce(call, "test_helpers.test_clock.advancing", changed)
    return changed


def target(clock: Document) -> int | None:
    """The time that an advancing clock is on its way to."""
    advancing = clock["status_details"].get("advancing")
    return int(advancing["target_frozen_time"]) if advancing else None


def finish(call: Call, clock: Document) -> None:
    """Once nothing is left to come due on the way."""
    ready = {**clock, "frozen_time": target(clock), "status": "ready", "status_details": {}}
    announce(call, "test_helpers.test_clock.ready", call.save(TEST_CLOCKS, ready))


def on_clock(call: Call, owner: Document) -> Call:
    """The same call at the time of the owner's test clock, where the owner (a customer, …) is bound to one."""
    clock = call.get(TEST_CLOCKS, owner["test_clock"]) if owner["test_clock"] else None
    return replace(call, now=float(clock["frozen_time"])) if clock else call


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/test_helpers/test_clocks",
        parameters({"frozen_time": Integer(0), "name": Text(300), **unserved("customer")}, ("frozen_time",)),
        create,
    ),
    Endpoint("GET", "/v1/test_helpers/test_clocks", parameters(PAGE_PARAMETERS), list_all),
    Endpoint("GET", "/v1/test_helpers/test_clocks/<id>", parameters(), retrieve),
    Endpoint(
        "POST",
        "/v1/test_helpers/test_clocks/<id>/advance",
        parameters({"frozen_time": Integer(0)}, ("frozen_time",)),
        advance,
    ),
)
