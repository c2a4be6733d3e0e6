"""Meter events: one report of usage each.

Checked before the answer: parameters, the meter's existence, the timestamp's window, the identifier. Found out later,
as an asynchronous error that counts nothing: the customer and the value; with asynchronous validation switched on (as
Stripe's faster endpoints have it) the meter and the timestamp, too.
Source: Stripe's API reference, "Meter Event", and its page on recording usage.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from metering.stripe_sync.standin.customers import CUSTOMERS
from metering.stripe_sync.standin.endpoint import Call, Endpoint, new_id
from metering.stripe_sync.standin.error_reports import validation
from metering.stripe_sync.standin.errors import ApiError
from metering.stripe_sync.standin.meters import active_meter, latest_meter
from metering.stripe_sync.standin.rules import Integer, Strings, Text, parameters
from metering.stripe_sync.standin.store import Document
from metering.stripe_sync.standin.test_clocks import on_clock
from metering.stripe_sync.standin.usage import EVENTS, Event

PAST_SECONDS = 35 * 24 * 3600
FUTURE_SECONDS = 5 * 60
IDENTIFIER_SECONDS = 24 * 3600
MAX_DIGITS = 15

_CREATE = parameters(
    {
        "event_name": Text(100),
        "payload": Strings(max_key_length=100),
        "identifier": Text(100),
        "timestamp": Integer(),
    },
    required=("event_name", "payload"),
)


def create(call: Call) -> Document:
    params = call.params
    meter = active_meter(call.store, params["event_name"])
    payload: dict[str, str] = params["payload"]
    known = meter or latest_meter(call.store, params["event_name"])
    customer, value, error = _read_payload(call, known, payload) if known else ("", None, "no_meter")
    now = _time_of(call, customer)
    timestamp = params.get("timestamp", now)
    wrong = _wrong_meter(meter, params["event_name"]) or _wrong_timestamp(timestamp, now)
    if wrong and not validation(call.store)["enabled"]:
        raise wrong
    identifier = params.get("identifier") or str(uuid.uuid4())
    _check_identifier(call, identifier)
    if wrong and known:
        error = "archived_meter" if known["status"] == "inactive" else wrong.code
    event = Event(
        id=new_id("evt_meter"),
        identifier=identifier,
        event_name=params["event_name"],
        meter=known["id"] if known else "",
        customer=customer,
        value=value,
        timestamp=timestamp,
        received_at=call.now,
        cancelled_at=None,
        error=error,
    )
    save_event(call, event)
    return {
        "object": "billing.meter_event",
        "created": call.timestamp,
        "event_name": event.event_name,
        "identifier": identifier,
        "livemode": False,
        "payload": payload,
        "timestamp": timestamp,
    }


def save_event(call: Call, event: Event) -> None:
    """Values are kept as strings: JSON numbers would come back as binary floats."""
    document: dict[str, Any] = asdict(event)
    call.save(EVENTS, {**document, "value": None if event.value is None else str(event.value)})


def _time_of(call: Call, customer: str) -> int:
    """Of the customer's test clock, if it is bound to one."""
    owner = call.get(CUSTOMERS, customer)
    return on_clock(call, owner).timestamp if owner else call.timestamp


def _wrong_meter(meter: Document | None, event_name: str) -> ApiError | None:
    if meter:
        return None
    return ApiError(
        f"Invalid event_name: {event_name}. No active meter found with this event name.", param="event_name"
    )


def _wrong_timestamp(timestamp: int, now: int) -> ApiError | None:
    if timestamp < now - PAST_SECONDS:
        return ApiError(
            "The event timestamp cannot be more than 35 days in past. "
            f"Expected a timestamp greater than or equal to {now - PAST_SECONDS}.",
            code="timestamp_too_far_in_past",
            param="timestamp",
        )
    if timestamp > now + FUTURE_SECONDS:
        return ApiError(
            "The event timestamp cannot be more than 5 minutes in future. "
            f"Expected a timestamp less than or equal to {now + FUTURE_SECONDS}.",
            code="timestamp_in_future",
            param="timestamp",
        )
    return None


def _check_identifier(call: Call, identifier: str) -> None:
    earlier = call.usage.find(identifier)
    if earlier and call.now - earlier.received_at < IDENTIFIER_SECONDS:
        raise ApiError(
            f"An event already exists with identifier {identifier}.", headers={"Stripe-Should-Retry": "false"}
        )


def _read_payload(call: Call, meter: Document, payload: dict[str, str]) -> tuple[str, Decimal | None, str | None]:
    """The customer's id, the value (None on a count meter), and the code of what will be found wrong later."""
    customer = payload.get(meter["customer_mapping"]["event_payload_key"], "")
    if not customer:
        return "", None, "meter_event_no_customer_defined"
    if customer not in call.store.of(CUSTOMERS):
        return customer, None, "meter_event_customer_not_found"
    if meter["default_aggregation"]["formula"] == "count":
        return customer, None, None
    value, error = _read_value(payload.get(meter["value_settings"]["event_payload_key"]))
    return customer, value, error


def _read_value(text: str | None) -> tuple[Decimal | None, str | None]:
    if text is None:
        return None, "meter_event_value_not_found"
    if not re.fullmatch(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)", text):
        return None, "meter_event_invalid_value"
    value = Decimal(text)
    if len(value.as_tuple().digits) > MAX_DIGITS:
        return None, "meter_event_value_too_many_digits"
    return value, None


ENDPOINTS = (Endpoint("POST", "/v1/billing/meter_events", _CREATE, create),)
