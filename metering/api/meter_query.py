"""`/meters/{meter}/query`: what a meter counted, by window and by group, as JSON or CSV, in OpenMeter's shape.

A customer's key sees its own usage alone, whatever it asks for; an operator's key that of all customers.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo

from flask import Blueprint, Response, request
from pydantic import AfterValidator, AliasGenerator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from metering.api.auth import current_caller, current_metering
from metering.api.bodies import Body, InvalidRequest, Query
from metering.api.operation import Content, Example, operation
from metering.api.shapes import EXAMPLE_CUSTOMER, CamelAnswer, Instant, Number, StatedInstant
from metering.billing.rhythm import UnknownTimeZone, zone
from metering.clock import zulu
from metering.csv_table import csv_table
from metering.store.meters import find_meter
from metering.store.usage_query import CUSTOMER_ID, SUBJECT, UsageQuery, UsageRow, query_usage
from metering.store.windows import WindowSize

blueprint = Blueprint("api_meter_query", __name__, url_prefix="/api/v1")

JSON, CSV = "application/json", "text/csv"
OPENMETER_NAMES = {"customer_id": CUSTOMER_ID}


def _zone(name: str) -> str:
    try:
        zone(name)
    except UnknownTimeZone as error:
        raise ValueError(error.message) from None
    return name


Text = Annotated[str, Field(min_length=1, max_length=256)]
Texts = Annotated[list[Text], Field(max_length=1_000)]
TimeZone = Annotated[str, AfterValidator(_zone), Field(max_length=64, examples=["Europe/Berlin"])]


class MeterQuery(Query):
    """`from` is included and `to` is not. Left out, they mean the first event and now, and with `windowSize` the whole
    window that holds it. Windows are those of the clock in `windowTimeZone`, cut to the range; without `windowSize` all
    of it is one. `groupBy` takes the meter's dimensions, any property of the events, `subject` and `customerId`; both
    of the latter are the customer's key. Filters are written `filterGroupBy[model]=large`.
    """

    from_: StatedInstant | None = Field(default=None, alias="from")
    to: StatedInstant | None = None
    window_size: WindowSize | None = Field(default=None, alias="windowSize")
    window_time_zone: TimeZone = Field(default="UTC", alias="windowTimeZone")
    subject: Texts | None = None
    filter_customer_id: Texts | None = Field(default=None, alias="filterCustomerId")
    group_by: Texts = Field(default_factory=list, alias="groupBy")
    filter_group_by: dict[str, Texts] = Field(default_factory=dict, alias="filterGroupBy")


class MeterQueryBody(Body):
    """The same as the parameters of the query string."""

    model_config = ConfigDict(alias_generator=AliasGenerator(alias=lambda name: to_camel(name.rstrip("_"))))

    from_: StatedInstant | None = None
    to: StatedInstant | None = None
    window_size: WindowSize | None = None
    window_time_zone: TimeZone = "UTC"
    subject: Texts | None = None
    filter_customer_id: Texts | None = None
    group_by: Texts = Field(default_factory=list)
    filter_group_by: dict[str, Texts] = Field(default_factory=dict)


class UsageRowAnswer(CamelAnswer):
    """`subject` and `customerId` are null unless grouped by; `groupBy` holds the other groups, null where events had
    no such property."""

    value: Number
    window_start: Instant
    window_end: Instant
    subject: str | None
    customer_id: str | None
    group_by: dict[str, str | None]

    @classmethod
    def of(cls, row: UsageRow) -> Self:
        return cls(
            value=row.value,
            window_start=row.window_start,
            window_end=row.window_end,
            subject=row.subject,
            customer_id=row.customer_id,
            group_by=dict(row.group_by),
        )


class UsageAnswer(CamelAnswer):
    """Windows without usage are left out."""

    model_config = ConfigDict(alias_generator=AliasGenerator(alias=lambda name: to_camel(name.rstrip("_"))))

    from_: Instant | None
    to: Instant | None
    window_size: WindowSize | None
    data: list[UsageRowAnswer]


_described: dict[str, Any] = {
    "scope": "usage:read",
    "answers": {200: Content({JSON: UsageAnswer, CSV: str})},
    "refuses": ("unknown-meter", "invalid-query"),
}


@blueprint.get("/meters/<id_or_slug>/query")
@operation(
    "Meters",
    **_described,
    query=MeterQuery,
    example=Example(
        path={"id_or_slug": "tokens"},
        query={"windowSize": "DAY", "windowTimeZone": "Europe/Berlin", "groupBy": ["model"]},
    ),
    headers=("Accept",),
)
def query(id_or_slug: str, query: MeterQuery) -> Response | UsageAnswer:
    """What the meter counted, by window and group. With `Accept: text/csv` as a table."""
    return _answer(id_or_slug, query)


@blueprint.post("/meters/<id_or_slug>/query")
@operation(
    "Meters",
    **_described,
    body=MeterQueryBody,
    example=Example(
        path={"id_or_slug": "tokens"},
        body={"windowSize": "HOUR", "subject": [EXAMPLE_CUSTOMER], "filterGroupBy": {"model": ["large"]}},
    ),
    headers=("Accept",),
)
def query_by_body(id_or_slug: str, body: MeterQueryBody) -> Response | UsageAnswer:
    """What the meter counted, asked for by a body: for filters that are too many for a query string."""
    return _answer(id_or_slug, body)


def _answer(id_or_slug: str, asked: MeterQuery | MeterQueryBody) -> Response | UsageAnswer:
    runtime = current_metering().runtime
    runtime.refresh_meters()
    now = runtime.clock()
    with runtime.transaction() as session:
        slug = find_meter(session, runtime.file_catalog, id_or_slug).key
        wanted = _usage_query(slug, asked)
        rows = query_usage(session, wanted, now=now)
    if request.accept_mimetypes.best_match([JSON, CSV], default=JSON) == CSV:
        return Response(_table(wanted, rows), content_type=f"{CSV}; charset=utf-8")
    data = [UsageRowAnswer.of(row) for row in rows]
    return UsageAnswer(from_=asked.from_, to=asked.to, window_size=asked.window_size, data=data)


def _usage_query(slug: str, asked: MeterQuery | MeterQueryBody) -> UsageQuery:
    caller = current_caller()
    customers = {SUBJECT: asked.subject, CUSTOMER_ID: asked.filter_customer_id}
    twice = [name for name, keys in customers.items() if keys is not None and name in asked.filter_group_by]
    if twice:
        raise InvalidRequest(f"{twice[0]} is filtered twice", errors=[{"field": "filterGroupBy", "message": twice[0]}])
    filters = {name: keys for name, keys in customers.items() if keys is not None}
    return UsageQuery(
        meter=current_metering().catalog.meter(slug),
        from_=asked.from_,
        to=asked.to,
        window_size=asked.window_size,
        timezone=ZoneInfo(asked.window_time_zone),
        customers=None if caller.is_operator else [caller.customer],
        group_by=[OPENMETER_NAMES.get(name, name) for name in asked.group_by],
        filters={**asked.filter_group_by, **filters},
    )


def _table(wanted: UsageQuery, rows: Sequence[UsageRow]) -> str:
    """The rows as CSV, a column for each group."""
    names = list(dict.fromkeys(wanted.group_by))
    head = ["window_start", "window_end", *("customer_id" if n == CUSTOMER_ID else n for n in names), "value"]
    return csv_table(head, (_cells(row, names) for row in rows))


def _cells(row: UsageRow, names: Sequence[str]) -> list[str]:
    known = {**row.group_by, SUBJECT: row.subject, CUSTOMER_ID: row.customer_id}
    groups = (known[name] or "" for name in names)
    return [zulu(row.window_start), zulu(row.window_end), *groups, format(row.value, "f")]
