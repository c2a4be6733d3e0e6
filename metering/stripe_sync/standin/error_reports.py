"""Tells what was found wrong with meter events after they had been answered: one thin event for each meter.

`v1.billing.meter.error_report_triggered` is about a meter, `v1.billing.meter.no_meter_found` about events whose name no
meter has. Both count every failed event since the last report, but name only some of them: a sample, never a list.
Source: Stripe's page on recording usage; how many samples and how long a window, Stripe doesn't say.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from metering.stripe_sync.standin.announcements import announce_thin
from metering.stripe_sync.standin.clock import SETTINGS
from metering.stripe_sync.standin.endpoint import Call
from metering.stripe_sync.standin.store import Change, Store
from metering.stripe_sync.standin.usage import Event
from metering.stripe_sync.standin.v2 import iso

MAX_SAMPLES = 10
DEFAULTS: dict[str, Any] = {"enabled": False, "report_after_seconds": 1.0}

_MESSAGES = {
    "archived_meter": "The meter for the event name {event.event_name} is inactive.",
    "meter_event_customer_not_found": "No such customer: '{event.customer}'.",
    "meter_event_invalid_value": "The value in the payload is not a number.",
    "meter_event_no_customer_defined": "Customer mapping key not found in the payload.",
    "meter_event_value_not_found": "Value key not found in the payload.",
    "meter_event_value_too_many_digits": "The value has more digits than are supported.",
    "no_meter": "No meter found for the event name {event.event_name}.",
    "timestamp_in_future": "The event timestamp is more than 5 minutes in the future.",
    "timestamp_too_far_in_past": "The event timestamp is more than 35 days in the past.",
}


def validation(store: Store) -> dict[str, Any]:
    """`enabled`: meter and timestamp, too, are looked at late; `report_after_seconds`: counted from the first error."""
    return {**DEFAULTS, **store.of(SETTINGS).get("async_validation", {})}


def report_due(call: Call) -> None:
    """Reports once the oldest unreported failure is old enough, by the stand-in's clock."""
    failed = _unreported(call)
    if failed and not 0 <= call.now - failed[0].received_at < validation(call.store)["report_after_seconds"]:
        report_now(call)


def report_now(call: Call) -> None:
    failed = _unreported(call)
    by_meter: dict[str, list[Event]] = defaultdict(list)
    for event in failed:
        by_meter[event.meter].append(event)
    for meter, events in by_meter.items():
        data = _data(events, iso(call.now))
        if meter:
            related = {"id": meter, "type": "billing.meter", "url": f"/v1/billing/meters/{meter}"}
            announce_thin(call, "v1.billing.meter.error_report_triggered", data, related)
        else:
            announce_thin(call, "v1.billing.meter.no_meter_found", data, None)
    if failed:
        call.changes.append(Change(SETTINGS, "error_reports", {"reported": len(call.usage.failed)}))


def _unreported(call: Call) -> list[Event]:
    reported = call.store.of(SETTINGS).get("error_reports", {}).get("reported", 0)
    return [call.usage.events[id] for id in call.usage.failed[reported:]]


def _data(events: list[Event], end: str) -> dict[str, Any]:
    by_code: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        by_code[event.error or ""].append(event)
    count = len(events)
    return {
        "developer_message_summary": f"There {'is 1 invalid event' if count == 1 else f'are {count} invalid events'}",
        "reason": {
            "error_count": count,
            "error_types": [
                {"code": code, "error_count": len(failed), "sample_errors": _samples(code, failed[:MAX_SAMPLES])}
                for code, failed in by_code.items()
            ],
        },
        "validation_start": iso(events[0].received_at),
        "validation_end": end,
    }


def _samples(code: str, events: Iterable[Event]) -> list[dict[str, Any]]:
    return [
        {"error_message": _MESSAGES[code].format(event=event), "request": {"identifier": event.identifier}}
        for event in events
    ]
