"""`POST /events`: usage events of other services, as CloudEvents 1.0; all of a request is recorded, or nothing of it.

Source: the CloudEvents HTTP protocol binding 1.0.2: structured, batched and binary mode; plain JSON beside them.
"""

import zlib
from typing import Annotated, Any
from urllib.parse import unquote

from flask import Blueprint, request
from pydantic import ConfigDict, Field
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType

from metering import exact_json
from metering.api.auth import authenticate_for_events, current_caller, current_metering
from metering.api.bodies import InvalidRequest, Query
from metering.api.operation import Content, Example, operation
from metering.api.shapes import Answer, Instant
from metering.ingest import ingest
from metering.intake.cloudevents import JSON_TYPE, CloudEvent, EventFault, read_events

blueprint = Blueprint("api_events", __name__, url_prefix="/api/v1")

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
JSON = "application/json"
ATTRIBUTES = "HTTP_CE_"
MOST_MEMBERS = 64
GZIP_BITS = 16 + zlib.MAX_WBITS


class CloudEventShape(Answer):
    """One fact of usage. `subject` is the key of the customer, `type` what was used, `data` the quantity and whatever
    the meter groups by. On a level (storage, seats) `data.op` says whether the value changes it, which is the default,
    or replaces it ("set"). Extension attributes are taken and not kept.
    """

    model_config = ConfigDict(extra="allow")

    specversion: Annotated[str, Field(pattern="^1\\.0$")] = "1.0"
    id: Annotated[str, Field(min_length=1, max_length=256)]
    source: Annotated[str, Field(min_length=1, max_length=256)]
    type: Annotated[str, Field(min_length=1, max_length=256)]
    subject: Annotated[str, Field(min_length=1, max_length=256)]
    time: Instant | None = None
    data: dict[str, Any] | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None


class EventsQuery(Query):
    """`enforce`: refuse the whole request where it would pass a hard limit. It is of one customer then."""

    enforce: bool = False


@blueprint.post("/events")
@operation(
    "Events",
    scope="events:write",
    authenticate=authenticate_for_events,
    query=EventsQuery,
    body=Content(
        {STRUCTURED: CloudEventShape, BATCH: list[CloudEventShape], JSON: CloudEventShape | list[CloudEventShape]}
    ),
    refuses=("invalid-events", "invalid-request", "usage-conflict", "limit-exceeded", "unknown-customer"),
    example=Example(
        headers={"Content-Type": STRUCTURED},
        body={
            "specversion": "1.0",
            "id": "mail-4711",
            "source": "mailer",
            "type": "messages",
            "subject": "acme",
            "data": {"value": 3},
        },
        status=204,
    ),
)
def send(query: EventsQuery) -> None:
    """Record usage events. Answered 204 once they are durable.

    The identity of an event is (subject, source, id), for ever: sent again it changes nothing, with another payload it
    is refused. A bad event refuses the whole request, and each bad one is named with its place and the reason.
    """
    events, faults = _events()
    ingest(current_metering(), events, faults, current_caller(), enforce=query.enforce)


def _events() -> tuple[list[CloudEvent], list[EventFault]]:
    """What the request holds.

    Raises:
        UnsupportedMediaType, RequestEntityTooLarge: it is nothing that is taken, or too much of it.
        InvalidRequest: it is no JSON.
    """
    media_type = request.mimetype
    if request.mimetype_params.get("charset", "utf-8").lower() not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedMediaType("JSON is UTF-8.")
    if media_type in (STRUCTURED, BATCH):
        documents = _documents(_parse(_body()), is_list=media_type == BATCH)
    elif ATTRIBUTES + "SPECVERSION" in request.environ:
        documents = [_binary_event()]
    elif media_type in (JSON, ""):
        documents = _documents(_parse(_body()), is_list=None)
    else:
        raise UnsupportedMediaType(f"Send {STRUCTURED}, {BATCH} or {JSON}, not {media_type}.")
    most = current_metering().settings.max_events
    if len(documents) > most:
        raise RequestEntityTooLarge(f"The request holds {len(documents)} events; at most {most} are taken.")
    return read_events(documents)


def _documents(parsed: Any, *, is_list: bool | None) -> list[Any]:
    """`is_list` says what the media type promises; None for either."""
    if isinstance(parsed, list):
        if is_list is False:
            raise InvalidRequest(f"The body is an array; {STRUCTURED} holds one event, {BATCH} several.")
        return parsed
    if is_list:
        raise InvalidRequest(f"The body is no array, which {BATCH} is.")
    return [parsed]


def _binary_event() -> dict[str, Any]:
    """An event whose attributes are `ce-` headers and whose data is the body."""
    event: dict[str, Any] = {
        name.removeprefix(ATTRIBUTES).lower(): unquote(value)
        for name, value in request.environ.items()
        if name.startswith(ATTRIBUTES)
    }
    body = _body()
    if body:
        if request.mimetype and not JSON_TYPE.fullmatch(request.mimetype):
            raise UnsupportedMediaType(f"The data of an event must be JSON, not {request.mimetype}.")
        event["data"] = _parse(body)
    return event


def _parse(body: bytes) -> Any:
    try:
        return exact_json.parse(body)
    except ValueError as error:
        raise InvalidRequest(f"The body is no JSON: {error}") from None


def _body() -> bytes:
    """The body, unpacked where it is packed. Raises RequestEntityTooLarge for one that is too large either way."""
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding == "identity":
        return request.get_data(cache=False)
    if encoding not in ("gzip", "x-gzip"):
        raise UnsupportedMediaType(f"The body may be packed by gzip, not by {encoding}.")
    return unpack(request.get_data(cache=False), current_metering().settings.max_body_bytes)


def unpack(packed: bytes, most: int) -> bytes:
    """The content of a gzip file of one or more members, without unpacking more than `most` bytes.

    Raises:
        RequestEntityTooLarge: it holds more. InvalidRequest: it is none, or is cut off.
    """
    unpacked, members = b"", 0
    while packed:
        members += 1
        if members > MOST_MEMBERS:
            raise InvalidRequest(f"The gzip body has more than {MOST_MEMBERS} members.")
        member = zlib.decompressobj(GZIP_BITS)
        try:
            unpacked += member.decompress(packed, most + 1 - len(unpacked))
        except zlib.error as error:
            raise InvalidRequest(f"The body is not what gzip writes: {error}") from None
        if len(unpacked) > most:
            raise RequestEntityTooLarge(f"The body unpacks to more than {most} bytes.")
        if not member.eof:
            raise InvalidRequest("The gzip body is cut off.")
        packed = member.unused_data.lstrip(b"\x00")
    return unpacked
