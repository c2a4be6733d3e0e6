"""Meters in OpenMeter's shape: those of the catalog file, and those that operators make at run time."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from flask import Blueprint
from pydantic import ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from metering.api.auth import current_metering
from metering.api.bodies import Body, InvalidRequest, Query
from metering.api.changing import changing
from metering.api.complaints import complaint
from metering.api.operation import Example, operation
from metering.api.shapes import CamelAnswer, Instant, Line
from metering.catalog import Meter
from metering.catalog.aggregations import AGGREGATIONS
from metering.catalog.schema import JsonPath, Key
from metering.models import MeterRow
from metering.store.meters import MeterOrder, change_meter, create_meter, find_meter, list_meters

blueprint = Blueprint("api_meters", __name__, url_prefix="/api/v1")

AggregationName = Literal["SUM", "COUNT", "AVG", "MIN", "MAX", "UNIQUE_COUNT", "LATEST", "TIME_WEIGHTED"]
BillsAs = Literal["time_weighted", "maximum"]
Display = Literal["number", "bytes", "seconds"]
GroupBy = Annotated[dict[Key, JsonPath], Field(max_length=20)]
Unit = Annotated[Line, Field(max_length=60)]
Description = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00]*$")]

assert {name.lower() for name in get_args(AggregationName)} == AGGREGATIONS.keys()


class MeterAnswer(CamelAnswer):
    """`unit`, `scale`, `kind`, `billsAs`, `display` and `origin` are ours, the rest is OpenMeter's.

    `origin`: a meter of the `catalog` file is changed there; one made by the `api` can be changed here.
    """

    id: str
    slug: str
    name: str
    description: str | None
    aggregation: AggregationName
    event_type: str
    event_from: Instant | None = None
    value_property: str | None
    group_by: dict[str, str]
    created_at: Instant
    updated_at: Instant
    unit: str
    scale: int
    kind: Literal["usage", "level"]
    bills_as: BillsAs | None
    display: Display
    origin: Literal["catalog", "api"]

    @classmethod
    def of(cls, row: MeterRow) -> Self:
        runtime = current_metering().runtime
        from_file = row.key in runtime.file_catalog.meters
        meter = runtime.file_catalog.meters[row.key] if from_file else Meter.model_validate(row.definition)
        return cls(
            id=str(row.id),
            slug=meter.key,
            name=meter.name,
            description=meter.description or None,
            aggregation=meter.aggregation.upper(),  # type: ignore[arg-type]  # the names are compared above
            event_type=meter.event_type or meter.key,
            value_property=None if meter.aggregation == "count" else meter.value_property,
            group_by=dict(meter.group_by),
            created_at=row.created_at,
            updated_at=row.updated_at,
            unit=meter.unit,
            scale=meter.scale,
            kind=meter.kind,
            bills_as=meter.bills_as,
            display=meter.display,
            origin="catalog" if from_file else "api",
        )


class MetersQuery(Query):
    """OpenMeter's parameters. No meter is ever deleted, so `includeDeleted` changes nothing."""

    page: int = Field(default=1, ge=1, le=1_000_000)
    page_size: int = Field(default=100, ge=1, le=1000, alias="pageSize")
    order: Literal["ASC", "DESC"] = "ASC"
    order_by: MeterOrder = Field(default="key", alias="orderBy")
    include_deleted: bool = Field(default=False, alias="includeDeleted")


@blueprint.get("/meters")
@operation("Meters", scope="usage:read", query=MetersQuery, answers=list[MeterAnswer])
def list_all(query: MetersQuery) -> list[MeterAnswer]:
    """All meters, as a bare array."""
    runtime = current_metering().runtime
    with runtime.transaction() as session:
        rows = list_meters(
            session,
            runtime.file_catalog,
            order_by=query.order_by,
            descending=query.order == "DESC",
            offset=(query.page - 1) * query.page_size,
            limit=query.page_size,
        )
    return [MeterAnswer.of(row) for row in rows]


@blueprint.get("/meters/<id_or_slug>")
@operation(
    "Meters",
    scope="usage:read",
    answers=MeterAnswer,
    refuses=("unknown-meter",),
    example=Example(path={"id_or_slug": "tokens"}),
)
def read(id_or_slug: str) -> MeterAnswer:
    """One meter, by its id or its slug."""
    runtime = current_metering().runtime
    with runtime.transaction() as session:
        return MeterAnswer.of(find_meter(session, runtime.file_catalog, id_or_slug))


class MeterBody(Body):
    model_config = ConfigDict(alias_generator=to_camel)


class NewMeter(MeterBody):
    """OpenMeter's body, and: `unit`; `scale`, the decimal places that are kept; `kind`, where a `level` (storage,
    seats) carries over from period to period and says with `billsAs` how it would be billed; `display`.
    """

    slug: Key
    name: Line | None = None
    description: Description = ""
    aggregation: AggregationName
    event_type: str = Field(min_length=1, max_length=100, pattern=r"^[^\x00]*$")
    value_property: JsonPath = "$.value"
    group_by: GroupBy = Field(default_factory=dict)
    unit: Unit = "unit"
    scale: int = Field(default=0, ge=0, le=9)
    kind: Literal["usage", "level"] = "usage"
    bills_as: BillsAs | None = None
    display: Display = "number"


@blueprint.post("/meters")
@operation(
    "Meters",
    scope="admin",
    operators_only=True,
    body=NewMeter,
    answers=MeterAnswer,
    status=201,
    refuses=("conflict",),
    example=Example(
        body={
            "slug": "video_seconds",
            "name": "Video",
            "aggregation": "SUM",
            "eventType": "video",
            "valueProperty": "$.seconds",
            "groupBy": {"codec": "$.codec"},
            "unit": "second",
        },
        status=201,
    ),
)
def create(body: NewMeter) -> MeterAnswer:
    """Make a meter; every process knows it within a second. No plan limits or prices it."""
    runtime = current_metering().runtime
    fields = body.model_dump(exclude={"slug", "name", "aggregation"})
    meter = _meter(fields | {"key": body.slug, "name": body.name or body.slug, "aggregation": body.aggregation.lower()})
    with changing() as change:
        row = create_meter(change.session, runtime.file_catalog, meter, now=change.now)
        change.note("meter.create", **meter.model_dump(mode="json"))
    runtime.refresh_meters(max_age_seconds=0)
    return MeterAnswer.of(row)


class MeterChanges(MeterBody):
    """What is left out stays. What stored usage means cannot be changed, so other fields are refused."""

    name: Line | None = None
    description: Description | None = None
    unit: Unit | None = None
    display: Display | None = None
    group_by: GroupBy | None = None


@blueprint.route("/meters/<id_or_slug>", methods=["PUT", "PATCH"])
@operation(
    "Meters",
    scope="admin",
    operators_only=True,
    body=MeterChanges,
    answers=MeterAnswer,
    refuses=("unknown-meter", "conflict"),
    example=Example(path={"id_or_slug": "video_seconds"}, body={"name": "Videos"}, after="meters_create"),
)
def update(id_or_slug: str, body: MeterChanges) -> MeterAnswer:
    """Change what people read of a meter, or add dimensions to `groupBy` as long as the meter has no usage."""
    runtime = current_metering().runtime
    changes = body.model_dump(exclude_none=True)
    with changing() as change:
        row = find_meter(change.session, runtime.file_catalog, id_or_slug, lock=True)
        change_meter(change.session, runtime.file_catalog, row, _meter(row.definition | changes), now=change.now)
        change.note("meter.change", meter=row.key, **changes)
    runtime.refresh_meters(max_age_seconds=0)
    return MeterAnswer.of(row)


def _meter(fields: Mapping[str, Any]) -> Meter:
    """Raises InvalidRequest for fields that are right by themselves, but do not fit together."""
    try:
        return Meter.model_validate(fields)
    except ValidationError as error:
        why = complaint(error.errors()[0])
        raise InvalidRequest(
            f"The body is not as it should be: kind: {why}", errors=[{"field": "kind", "message": why}]
        ) from None
