"""What Stripe doesn't have, under `/_standin/`: exact totals, received events, faults, the clock, validation.

The POSTs take JSON only, which no foreign page can send here without asking first.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, current_app, jsonify, request

from metering.stripe_sync.standin import error_reports
from metering.stripe_sync.standin.clock import SETTINGS
from metering.stripe_sync.standin.errors import ApiError
from metering.stripe_sync.standin.faults import NO_FAULT_KIND, Fault
from metering.stripe_sync.standin.invoicing import FINALIZATION
from metering.stripe_sync.standin.meters import METERS
from metering.stripe_sync.standin.service import Standin
from metering.stripe_sync.standin.store import Change
from metering.stripe_sync.standin.usage import Event

MAX_SAMPLES = 100


views = Blueprint("inspection", __name__, url_prefix="/_standin")


@views.get("/totals")
def totals() -> Response:
    return jsonify(totals=hour_totals(_standin()))


@views.get("/events")
def events() -> Response:
    standin = _standin()
    with standin.store.lock:
        return jsonify(events=[_shown(event) for event in standin.usage.events.values()])


@views.get("/errors")
def errors() -> Response:
    return jsonify(errors=asynchronous_errors(_standin()))


@views.get("/faults")
def armed_faults() -> Response:
    return jsonify(faults=_standin().faults.listing())


@views.post("/faults")
def arm_fault() -> Response:
    sent = _json()
    times = sent.pop("times", None if sent.get("kind") == "outage" else 1)
    if times is not None and (type(times) is not int or times < 1):
        raise ApiError("times: must be a whole number above 0, or null for until lifted", param="times")
    _standin().faults.arm(_fault(sent), times)
    return armed_faults()


@views.delete("/faults")
def lift_faults() -> Response:
    _standin().faults.lift()
    return armed_faults()


@views.get("/clock")
def clock() -> Response:
    return jsonify(now=_standin().clock.now())


@views.post("/clock")
def set_clock() -> Response:
    standin, sent = _standin(), _json()
    if set(sent) == {"now"}:
        at = _number(sent, "now")
    elif set(sent) == {"advance_seconds"}:
        at = standin.clock.now() + _number(sent, "advance_seconds")
    else:
        raise ApiError("send either now or advance_seconds")
    standin.change_setting(standin.clock.set(at))
    return clock()


@views.post("/delay")
def set_delay() -> Response:
    """How long a received event takes to show in the event summaries."""
    seconds = _number(_json(), "seconds")
    _standin().change_setting(Change(SETTINGS, "summaries", {"delay_seconds": seconds}))
    return jsonify(seconds=seconds)


@views.post("/async_validation")
def set_async_validation() -> Response:
    """`enabled`: meter and timestamp are looked at after the answer. Errors are reported `report_after_seconds`."""
    standin, sent = _standin(), _json()
    if not isinstance(enabled := sent.pop("enabled", None), bool):
        raise ApiError("enabled: must be true or false", param="enabled")
    after = _number({**error_reports.DEFAULTS, **sent}, "report_after_seconds")
    standin.change_setting(Change(SETTINGS, "async_validation", {"enabled": enabled, "report_after_seconds": after}))
    return jsonify(enabled=enabled, report_after_seconds=after)


@views.post("/error_reports")
def report_errors() -> Response:
    """Announces what was found wrong so far, without waiting."""
    _standin().act(error_reports.report_now)
    return errors()


@views.post("/finalization")
def set_finalization() -> Response:
    """How long a renewal's invoice stays a draft that late usage is added to; Stripe allows up to 72 hours."""
    seconds = _number(_json(), "seconds")
    _standin().change_setting(Change(SETTINGS, FINALIZATION, {"seconds": seconds}))
    return jsonify(seconds=seconds)


def _standin() -> Standin:
    standin: Standin = current_app.extensions["standin"]
    return standin


def hour_totals(standin: Standin) -> list[dict[str, Any]]:
    """Everything received and counted so far, whatever the summaries' delay; totals are decimal strings."""
    with standin.store.lock:
        formulas = {id: meter["default_aggregation"]["formula"] for id, meter in standin.store.of(METERS).items()}
        found = list(standin.usage.hour_totals(formulas))
    return [
        {**dataclasses.asdict(total), "hour_start": datetime.fromtimestamp(total.hour, UTC).isoformat()}
        for total in found
    ]


def asynchronous_errors(standin: Standin) -> list[dict[str, Any]]:
    """Asynchronous errors by code, with counts and sample identifiers, as Stripe's error reports have them."""
    with standin.store.lock:
        failed: dict[tuple[str, str, str], list[str]] = defaultdict(list)
        for event in standin.usage.events.values():
            if event.error:
                failed[event.error, event.event_name, event.meter].append(event.identifier)
    return [
        {
            "code": code,
            "event_name": name,
            "meter": meter,
            "count": len(ids),
            "identifiers": ids[:MAX_SAMPLES],
        }
        for (code, name, meter), ids in failed.items()
    ]


def _shown(event: Event) -> dict[str, Any]:
    return {**dataclasses.asdict(event), "value": None if event.value is None else format(event.value, "f")}


def _json() -> dict[str, Any]:
    sent = request.get_json()
    if not isinstance(sent, dict):
        raise ApiError("send a JSON object")
    return sent


def _number(sent: dict[str, Any], name: str) -> float:
    value = sent.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ApiError(f"{name}: must be a number", param=name)
    return float(value)


def _fault(sent: dict[str, Any]) -> Fault:
    try:
        fault = Fault(**sent)
    except (TypeError, ValueError) as error:
        raise ApiError(str(error)) from error
    if fault.kind == NO_FAULT_KIND:
        raise ApiError("kind: none is no fault", param="kind")
    return fault
