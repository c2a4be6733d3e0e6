"""Event summaries: what a customer's events of a meter add up to, over a range or over each hour or day of it.

Source: Stripe's API reference, "Meter Event Summary". Eventually consistent: an event shows after the settable delay.
Stripe doesn't say what a range without events answers: here one summary of 0 when ungrouped, no row when grouped.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable

from metering.stripe_sync.standin.customers import CUSTOMERS
from metering.stripe_sync.standin.endpoint import Call, Endpoint
from metering.stripe_sync.standin.errors import ApiError, no_such
from metering.stripe_sync.standin.meters import METERS
from metering.stripe_sync.standin.pages import PAGE_PARAMETERS, page
from metering.stripe_sync.standin.rules import Choice, Integer, Text, parameters
from metering.stripe_sync.standin.store import Document
from metering.stripe_sync.standin.usage import Event, aggregate

_WINDOW_SECONDS = {None: 60, "hour": 3600, "day": 86_400}
_WINDOW_NAMES = {None: "minute", "hour": "hour", "day": "UTC day"}

_LIST = parameters(
    {
        "customer": Text(),
        "start_time": Integer(),
        "end_time": Integer(),
        "value_grouping_window": Choice(("day", "hour")),
        **PAGE_PARAMETERS,
    },
    required=("customer", "start_time", "end_time"),
)


def list_all(call: Call) -> Document:
    meter = call.find(METERS, "meter")
    params = call.params
    customer, start, end = params["customer"], params["start_time"], params["end_time"]
    window = params.get("value_grouping_window")
    _check_range(start, end, window)
    if customer not in call.store.of(CUSTOMERS):
        raise no_such("customer", customer, param="customer")
    events = call.usage.counted(meter["id"], customer, start, end, call.now - call.summary_delay_seconds)
    by_range = {(start, end): events} if window is None else _by_window(events, _WINDOW_SECONDS[window])
    newest_first = sorted(by_range.items(), key=lambda item: item[0], reverse=True)
    summaries = [_summary(meter, customer, *span, counted) for span, counted in newest_first]
    return page(summaries, call.path, params, "meter event summary")


def _check_range(start: int, end: int, window: str | None) -> None:
    if end <= start:
        raise ApiError("end_time must be after start_time.", param="end_time")
    for name, time in (("start_time", start), ("end_time", end)):
        if time % _WINDOW_SECONDS[window]:
            raise ApiError(f"{name} must be aligned with {_WINDOW_NAMES[window]} boundaries.", param=name)


def _by_window(events: Iterable[Event], seconds: int) -> dict[tuple[int, int], list[Event]]:
    windows: dict[tuple[int, int], list[Event]] = defaultdict(list)
    for event in events:
        start = event.timestamp - event.timestamp % seconds
        windows[start, start + seconds].append(event)
    return windows


def _summary(meter: Document, customer: str, start: int, end: int, events: list[Event]) -> Document:
    """Its id follows from what it sums up, so that pages keep their place."""
    digest = hashlib.sha256(f"{meter['id']} {customer} {start} {end}".encode()).hexdigest()
    return {
        "id": f"mtrusg_test_{digest[:32]}",
        "object": "billing.meter_event_summary",
        "aggregated_value": float(aggregate(meter["default_aggregation"]["formula"], events)),
        "end_time": end,
        "livemode": False,
        "meter": meter["id"],
        "start_time": start,
    }


ENDPOINTS = (Endpoint("GET", "/v1/billing/meters/<id>/event_summaries", _LIST, list_all),)
