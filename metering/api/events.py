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
from metering.api.shapes import EXAMPLE_CUSTOMER, Answer, Instant
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
    """One fact of usage. `data_base64` may stand in place of `data`. Extension attributes are taken and not kept."""

    model_config = ConfigDict(extra="allow")

    specversion: Annotated[str, Field(pattern="^1\\.0$")] = "1.0"
    id: Annotated[str, Field(min_length=1, max_length=256, description="Names the fact within its source.")]
    source: Annotated[str, Field(min_length=1, max_length=256, description="The service that says it.")]
    type: Annotated[
        str,
        Field(min_length=1, max_length=256, description="What was used: the `eventType` of the meters that count it."),
    ]
    subject: Annotated[str, Field(min_length=1, max_length=256, description="The key of the customer.")]
    time: Annotated[Instant | None, Field(description="When it happened; without it, now.")] = None
    data: Annotated[
        dict[str, Any] | None,
        Field(
            description="The quantity, where the meter looks for it: `data.value`, unless its `valueProperty` names "
            "another place (`$.tokens` is `data.tokens`). It is a number or a decimal string, with at most the "
            "meter's `scale` of decimal places. A meter of `COUNT` needs none, and one of `UNIQUE_COUNT` has there the "
            "value that it tells apart. On a level (storage, seats) `data.op` says whether the quantity is a "
            '`"change"`, as it is without it, or with `"set"` the level itself. Beside it: the properties that the '
            "meter groups by, and whatever else shall be kept. At most 32 KiB."
        ),
    ] = None
    datacontenttype: Annotated[str | None, Field(description="A JSON media type.")] = None
    dataschema: Annotated[str | None, Field(description="Is taken and not kept.")] = None


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
            "subject": EXAMPLE_CUSTOMER,
            "data": {"value": 3},
        },
        status=204,
    ),
)
def send(query: EventsQuery) -> None:
    """Record usage events. Answered 204 once all of them are on disk.

    **All or nothing.** One bad event refuses the whole request; `errors` of the problem names each that is bad by its
    `index` in the request, from 0, a JSON `pointer` into it, and the `reason`.

    **Identity** is (`subject`, `source`, `id`), for ever. Sent again with the same `type`, `time` and `data` an event
    changes nothing, so send a request again that got no answer, 500, 502, 503 or 504. An identity that says something
    else is refused with 409 while it is remembered (24 hours, `METERING_IDENTITY_WINDOW_SECONDS`), and set aside for
    the operators afterwards.

    **Time.** An event may lie 34 days back (`METERING_LATENESS_SECONDS`) and five minutes ahead. One whose billing
    period is closed counts in the running one, marked `late`.

    **Sizes.** A request holds at most 10,000 events (`METERING_MAX_EVENTS`) and 10 MiB, packed and unpacked
    (`METERING_MAX_BODY_BYTES`); one with more gets 413. `Content-Encoding: gzip` packs it.

    **Binary mode.** The attributes may come as headers, `ce-id`, `ce-source`, `ce-type`, `ce-subject` and `ce-time`,
    beside `ce-specversion: 1.0`. The body, of a JSON media type, is `data` alone then.
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
