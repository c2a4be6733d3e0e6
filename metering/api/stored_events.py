"""Stored events: listed newest first, looked at one by one, and taken back or put right by operators.

An event is found here once it was drained into PostgreSQL, usually within a second. A customer's key sees its own.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Self
from urllib.parse import urlencode

from flask import Blueprint, request
from pydantic import Field

from metering.api.auth import current_caller, current_metering
from metering.api.bodies import Body, InvalidRequest, Query
from metering.api.changing import changing
from metering.api.operation import Answered, Example, operation
from metering.api.shapes import CamelAnswer, Instant, Line, Number, Quantity, StatedInstant
from metering.errors import NotFound
from metering.store import void as mending
from metering.store.corrections import Telling
from metering.store.event_list import EventFilter, EventPage, StoredEvent, event_by_digest, list_events

blueprint = Blueprint("api_stored_events", __name__, url_prefix="/api")

Text = Annotated[str, Field(min_length=1, max_length=256)]
Texts = Annotated[list[Text], Field(max_length=100)]
OneText = Annotated[list[Text], Field(min_length=1, max_length=1)]

ONE_EVENT = {"event_id": Answered("stored_events_list_page", "eventId", drained=True)}


class StoredEventsQuery(Query):
    """`subject`: the keys of customers. `customerId`: the same. `meter`: the slugs of the meters that counted it.
    `type`: the types of events, as senders called them. `source`: who sent it. `id`: its id at the sender. `from`: the
    time of the event, which is included. `to`: the time of the event, which is not. `keyId`: the API key that it was
    sent with. `late`: whether its billing period was over when it came. `overshoot`: whether it took the customer past
    a hard limit. `voided`: whether it counts no more. `property`: `property[name]=value` is a text at the top of its
    data. `limit`: how many events a page holds. `cursor`: the `nextCursor` of the page before.
    """

    subject: Texts | None = None
    customer_id: Texts | None = Field(default=None, alias="customerId")
    meter: Texts | None = None
    type: Texts | None = None
    source: Text | None = None
    id: Text | None = None
    from_: StatedInstant | None = Field(default=None, alias="from")
    to: StatedInstant | None = None
    key_id: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = Field(default=None, alias="keyId")
    late: bool | None = None
    overshoot: bool | None = None
    voided: bool | None = None
    property: dict[str, OneText] = Field(default_factory=dict, max_length=20)
    limit: int = Field(default=50, ge=1, le=100)
    cursor: str | None = Field(default=None, max_length=200)


class CloudEventAnswer(CamelAnswer):
    """The event as it was sent; `time` is that of its arrival where the sender stated none."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: Instant
    data: dict[str, Any]


class PeriodAnswer(CamelAnswer):
    """The billing period it counts in: from `start` up to, not including, `end`."""

    start: Instant
    end: Instant


class CorrectionAnswer(CamelAnswer):
    """What stands in the place of an event that was corrected: the `eventId` of the newest correction, and the
    `quantity` that counts now, 0 where that one was voided."""

    event_id: str
    quantity: Number


class StoredEventAnswer(CamelAnswer):
    """An event as one meter counted it; an event that several count stands here once for each."""

    event_id: Annotated[str, Field(description="Names it in this API.")]
    event: CloudEventAnswer
    customer_id: str
    ingested_at: Annotated[Instant, Field(description="When it was taken.")]
    stored_at: Annotated[
        Instant, Field(description="The same moment: an event is on disk before it is answered, and listed soon after.")
    ]
    meter: str
    quantity: Annotated[Number, Field(description="In the meter's unit.")]
    key_id: Annotated[int | None, Field(description="The API key that sent it.")]
    late: Annotated[bool, Field(description="Its own billing period was over, so it counts in `period`.")]
    overshoot: Annotated[bool, Field(description="It took the customer past a hard limit.")]
    voided_at: Annotated[Instant | None, Field(description="Since when it does not count any more.")]
    correction: CorrectionAnswer | None
    corrects: Annotated[
        str | None,
        Field(description="The `eventId` of the event that was sent, in whose place this correction stands."),
    ]
    period: PeriodAnswer

    @classmethod
    def of(cls, stored: StoredEvent) -> Self:
        meters = current_metering().catalog.meters
        known = meters.get(stored.meter)
        return cls(
            event_id=stored.digest,
            event=CloudEventAnswer(
                specversion="1.0",
                id=stored.id,
                source=stored.source,
                type=known.event_type if known else stored.meter,
                subject=stored.customer,
                time=stored.time,
                data=dict(stored.properties),
            ),
            customer_id=stored.customer,
            ingested_at=stored.recorded_at,
            stored_at=stored.recorded_at,
            meter=stored.meter,
            quantity=stored.quantity,
            key_id=stored.key_id,
            late=stored.late,
            overshoot=stored.overshoot,
            voided_at=stored.voided_at,
            correction=_correction(stored.corrected),
            corrects=stored.corrects,
            period=PeriodAnswer(start=stored.period_starts_at, end=stored.period_ends_at),
        )


def _correction(told: Telling | None) -> CorrectionAnswer | None:
    return CorrectionAnswer(event_id=told.digest, quantity=told.counts) if told else None


class StoredEventPage(CamelAnswer):
    """`nextCursor`, sent as `cursor`, leads to the events that follow; null at the end."""

    items: list[StoredEventAnswer]
    next_cursor: str | None


_described: dict[str, Any] = {
    "scope": "usage:read",
    "query": StoredEventsQuery,
    "refuses": ("invalid-query",),
    "example": Example(query={"meter": ["api_call"], "voided": False, "limit": 1}),
}


@blueprint.get("/v1/events")
@operation("Events", answers=list[StoredEventAnswer], **_described)
def list_all(query: StoredEventsQuery) -> tuple[list[StoredEventAnswer], int, Mapping[str, str]]:
    """Stored events, newest first, as a bare array. The header `Link` leads to the next page, where there is one."""
    page = _page(query)
    headers = {}
    if page.next_cursor:
        args = [(name, value) for name, value in request.args.items(multi=True) if name != "cursor"]
        address = f"{request.path}?{urlencode([*args, ('cursor', page.next_cursor)])}"
        headers["Link"] = f'<{address}>; rel="next"'
    return [StoredEventAnswer.of(one) for one in page.events], 200, headers


@blueprint.get("/v2/events")
@operation("Events", answers=StoredEventPage, **_described)
def list_page(query: StoredEventsQuery) -> StoredEventPage:
    """Stored events, newest first, as an object with the cursor of the next page."""
    page = _page(query)
    return StoredEventPage(items=[StoredEventAnswer.of(one) for one in page.events], next_cursor=page.next_cursor)


@blueprint.get("/v1/events/<event_id>")
@operation(
    "Events",
    scope="usage:read",
    answers=StoredEventAnswer,
    refuses=("not-found",),
    example=Example(path=ONE_EVENT, after="sample_ping"),
)
def read(event_id: str) -> StoredEventAnswer:
    """One stored event, by its `eventId`."""
    return StoredEventAnswer.of(_find(event_id))


class VoidBody(Body):
    reason: Annotated[Line, Field(description="Is written down in the audit log.")]


class CorrectBody(VoidBody):
    quantity: Annotated[Quantity, Field(description="The right one, in the unit of the meter that counted this event.")]


@blueprint.post("/v1/events/<event_id>/void")
@operation(
    "Events",
    scope="events:write",
    operators_only=True,
    body=VoidBody,
    answers=StoredEventAnswer,
    refuses=("not-found", "conflict"),
    example=Example(path=ONE_EVENT, body={"reason": "sent by mistake"}, after="sample_ping"),
)
def void(event_id: str, body: VoidBody) -> StoredEventAnswer:
    """Take an event back on every meter that counted it: from usage, limits, bill and what Stripe is owed."""
    event = _find(event_id)
    with changing() as change:
        customer = change.customer(event.customer)
        mending.void(
            change.session,
            current_metering().runtime.intake,
            customer,
            event.source,
            event.id,
            reason=body.reason,
            actor=change.actor,
            now=change.now,
        )
    return StoredEventAnswer.of(_find(event_id))


@blueprint.post("/v1/events/<event_id>/correct")
@operation(
    "Events",
    scope="events:write",
    operators_only=True,
    body=CorrectBody,
    answers=StoredEventAnswer,
    status=201,
    refuses=("not-found", "conflict", "bad-quantity"),
    example=Example(
        path=ONE_EVENT, body={"quantity": 2, "reason": "it was two calls"}, status=201, after="sample_ping"
    ),
)
def correct(event_id: str, body: CorrectBody) -> StoredEventAnswer:
    """Take an event back and store it anew with the right quantity, on the meter that counted it; the new event."""
    event = _find(event_id)
    with changing() as change:
        customer = change.customer(event.customer)
        digest = mending.correct(
            change.session,
            current_metering().runtime.intake,
            current_metering().catalog,
            customer,
            event.source,
            event.id,
            body.quantity,
            reason=body.reason,
            actor=change.actor,
            now=change.now,
            meter=event.meter,
        ).digest
    return StoredEventAnswer.of(_find(digest))


def _find(event_id: str) -> StoredEvent:
    """Raises NotFound, also for one that is another customer's."""
    runtime = current_metering().runtime
    runtime.refresh_meters()
    caller = current_caller()
    with runtime.transaction() as session:
        found = event_by_digest(session, event_id, customer=None if caller.is_operator else caller.customer)
    if found is None:
        raise NotFound("there is no such event", event=event_id)
    return found


def _page(query: StoredEventsQuery) -> EventPage:
    runtime = current_metering().runtime
    runtime.refresh_meters()
    with runtime.transaction() as session:
        return list_events(session, _filter(query), limit=query.limit, cursor=query.cursor)


def _filter(query: StoredEventsQuery) -> EventFilter:
    """What is asked for, within what the caller may see."""
    if query.from_ and query.to and query.from_ >= query.to:
        raise InvalidRequest("from must be before to", errors=[{"field": "from", "message": "must be before to"}])
    caller = current_caller()
    own = None if caller.is_operator else [caller.customer]
    meters = current_metering().catalog.meters.values()
    of_types = None if query.type is None else [meter.key for meter in meters if meter.event_type in query.type]
    return EventFilter(
        customers=_all_of(own, query.subject, query.customer_id),
        meters=_all_of(query.meter, of_types),
        source=query.source,
        id=query.id,
        from_=query.from_,
        to=query.to,
        key_id=query.key_id,
        late=query.late,
        overshoot=query.overshoot,
        voided=query.voided,
        properties={name: value for name, (value,) in query.property.items()},
    )


def _all_of(*wanted: list[str] | None) -> list[str] | None:
    """What all of these name; None where none of them says anything."""
    named = [set(keys) for keys in wanted if keys is not None]
    return sorted(set.intersection(*named)) if named else None
