"""CloudEvents 1.0 as they come over HTTP, read into checked values. Pure.

Source: the CloudEvents specification 1.0.2, its JSON event format and its HTTP protocol binding. `subject` names the
customer, `type` what was used, and `data` holds the quantity and the properties. Whatever is wrong is collected, event
by event, so that a sender learns of all of it at once.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from metering import exact_json
from metering.clock import to_micros
from metering.intake.event import MAX_NAME, UNSTORABLE

SPEC_VERSION = "1.0"
REQUIRED = ("id", "source", "type", "subject")
DEFINED = frozenset({*REQUIRED, "specversion", "time", "data", "data_base64", "datacontenttype", "dataschema"})
EXTENSION = re.compile(r"[a-z0-9]{1,64}")
# RFC 3339. More digits than microseconds are cut, as no clock of ours tells them.
INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})")
JSON_TYPE = re.compile(r"(application/json|[^/]+/[^/]+\+json)(\s*;.*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """`time` is in microseconds since the epoch, None for an event that happens now."""

    index: int
    id: str
    source: str
    type: str
    subject: str
    time: int | None
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EventFault:
    """What is wrong with one event: its place in the request, a JSON pointer into the event, and why."""

    index: int
    pointer: str
    reason: str


def as_errors(faults: Iterable[EventFault]) -> list[dict[str, Any]]:
    """`errors` of a problem: the one form in which an answer says which events it is about."""
    listed = sorted(faults, key=lambda fault: fault.index)
    return [{"index": fault.index, "pointer": fault.pointer, "reason": fault.reason} for fault in listed]


def read_events(documents: Iterable[Any]) -> tuple[list[CloudEvent], list[EventFault]]:
    """The events among parsed JSON documents, and what is wrong with the others."""
    found: list[CloudEvent] = []
    faults: list[EventFault] = []
    for index, raw in enumerate(documents):
        wrong = False
        for pointer, reason in _faults_of(raw):
            wrong = True
            faults.append(EventFault(index, pointer, reason))
        if not wrong:
            found.append(_event(index, raw))
    return found, faults


def _event(index: int, raw: Mapping[str, Any]) -> CloudEvent:
    time = raw.get("time")
    return CloudEvent(
        index=index,
        id=raw["id"],
        source=raw["source"],
        type=raw["type"],
        subject=raw["subject"],
        time=None if time is None else to_micros(parse_instant(time)),
        data=_data(raw),
    )


def _faults_of(raw: Any) -> Iterator[tuple[str, str]]:
    """Pointer and reason of each fault of one event."""
    if not isinstance(raw, dict):
        yield "", "an event must be a JSON object"
        return
    for name in () if _names_are_plain(raw) else REQUIRED:
        value = raw.get(name)
        if value is None:
            yield f"/{name}", "is missing"
        elif not isinstance(value, str) or not value or len(value) > MAX_NAME or UNSTORABLE.search(value):
            yield f"/{name}", f"must be a text of 1 to {MAX_NAME} characters, without NUL or half a surrogate"
    if raw.get("specversion", SPEC_VERSION) != SPEC_VERSION:
        yield "/specversion", f'must be "{SPEC_VERSION}"'
    if (time := raw.get("time")) is not None and (reason := _time_fault(time)):
        yield "/time", reason
    yield from _data_faults(raw)
    if not raw.keys() <= DEFINED:
        yield from _extension_faults(raw)


def _names_are_plain(raw: Mapping[str, Any]) -> bool:
    """Whether there is nothing to say of what must be there: true of nearly all events, and told quickly."""
    names = [raw.get(name) for name in REQUIRED]
    if not all(type(name) is str and 0 < len(name) <= MAX_NAME for name in names):
        return False
    return UNSTORABLE.search("".join(names)) is None  # type: ignore[arg-type]  # all of them are texts


def _extension_faults(raw: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in raw.keys() - DEFINED:
        if not EXTENSION.fullmatch(name):
            yield f"/{_escaped(name)}", "an attribute's name holds lower-case letters and digits only"
        elif isinstance(raw[name], dict | list):
            yield f"/{name}", "an attribute is a text, a number or a boolean; what has members belongs into data"


def _data_faults(raw: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    data, encoded = raw.get("data"), raw.get("data_base64")
    if encoded is not None:
        if data is not None:
            yield "/data_base64", "an event has data or data_base64, not both"
        elif not isinstance(_decoded(encoded), dict):
            yield "/data_base64", "must be the base64 form of a JSON object"
        return
    if data is not None and not isinstance(data, dict):
        yield "/data", "must be a JSON object"
    media_type = raw.get("datacontenttype")
    if media_type is not None and not (isinstance(media_type, str) and JSON_TYPE.fullmatch(media_type)):
        yield "/datacontenttype", "must be application/json, or left out: data is JSON here"
    if not isinstance(raw.get("dataschema", ""), str | None):
        yield "/dataschema", "must be a text"


def _data(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    if raw.get("data_base64") is not None:
        decoded: Mapping[str, Any] = _decoded(raw["data_base64"])
        return decoded
    return raw.get("data") or {}


def _decoded(encoded: object) -> Any:
    """The JSON behind `data_base64`, None where there is none."""
    try:
        return exact_json.parse(base64.b64decode(encoded, validate=True)) if isinstance(encoded, str) else None
    except (binascii.Error, ValueError):
        return None


def _time_fault(time: object) -> str | None:
    if not isinstance(time, str) or not INSTANT.fullmatch(time):
        return "must be an instant as RFC 3339 writes it, such as 2026-01-31T23:59:59.123456Z"
    try:
        to_micros(parse_instant(time))
    except (ValueError, OverflowError) as error:
        return f"is no instant: {error}"
    return None


def parse_instant(text: str) -> datetime:
    """An RFC 3339 instant. Raises ValueError."""
    return datetime.fromisoformat(text.upper())


def _escaped(name: str) -> str:
    """A member's name in a JSON pointer (RFC 6901)."""
    readable = name.encode("utf-8", "backslashreplace").decode()
    return readable.replace("~", "~0").replace("/", "~1")[:MAX_NAME]
