"""Alerts of a customer, and the thresholds at which it is alerted."""

from decimal import Decimal
from typing import Annotated, Self

from flask import Blueprint
from pydantic import Field

from metering.accounts.customers import find_customer
from metering.api.auth import current_metering, customer_in_reach
from metering.api.bodies import Body
from metering.api.changing import changing
from metering.api.operation import Example, operation
from metering.api.paging import PageQuery, page
from metering.api.preconditions import IF_MATCH, Tagged, require_match, tagged
from metering.api.shapes import EXAMPLE_CUSTOMER, Answer, Instant, Number, Page
from metering.limits.alerts import list_alerts, percents_of, set_percents
from metering.models import Alert, Customer, MeterRow

blueprint = Blueprint("api_alerts", __name__, url_prefix="/api/v1")

THRESHOLDS = "/customers/<customer>/alert-thresholds"
DEMO = {"customer": EXAMPLE_CUSTOMER}

Percent = Annotated[int, Field(ge=1, le=1000)]


class Thresholds(Answer):
    """In percent of a limit, rising. `inherited`: they are the catalog's, the customer has none of its own."""

    percents: list[int]
    inherited: bool

    @classmethod
    def of(cls, customer: Customer) -> Self:
        percents = percents_of(current_metering().runtime.catalog, customer)
        return cls(percents=list(percents), inherited=customer.alert_percents is None)


@blueprint.get(THRESHOLDS)
@operation("Alerts", scope="admin", answers=Thresholds, refuses=("unknown-customer",), example=Example(path=DEMO))
def read_thresholds(customer: str) -> Tagged:
    """The thresholds that hold for a customer, with the ETag that If-Match takes."""
    with current_metering().runtime.transaction() as session:
        return tagged(Thresholds.of(find_customer(session, customer_in_reach(customer))))


class NewThresholds(Body):
    """`percents`: at most ten; an empty list for no alerts, null for the catalog's."""

    percents: Annotated[list[Percent], Field(max_length=10, examples=[[50, 80, 100]])] | None


@blueprint.put(THRESHOLDS)
@operation(
    "Alerts",
    scope="admin",
    body=NewThresholds,
    answers=Thresholds,
    refuses=("unknown-customer", "precondition-failed"),
    example=Example(path=DEMO, body={"percents": [50, 80, 100]}),
    headers=(IF_MATCH,),
)
def put_thresholds(customer: str, body: NewThresholds) -> Tagged:
    """Set the thresholds of a customer. They hold for what is used from now on; each alerts once a period."""
    with changing() as change:
        found = change.customer(customer)
        require_match(Thresholds.of(found))
        set_percents(found, body.percents)
        change.note("alert_thresholds.change", found, percents=found.alert_percents)
        return tagged(Thresholds.of(found))


class AlertAnswer(Answer):
    """`used` when it was noticed, and the limit then, in the meter's unit."""

    id: int
    meter: str
    percent: int
    used: Number
    limit: Number
    crossed_at: Instant
    dismissed_at: Instant | None

    @classmethod
    def of(cls, alert: Alert, meter: MeterRow) -> Self:
        return cls(
            id=alert.id,
            meter=meter.key,
            percent=alert.percent,
            used=Decimal(alert.units).scaleb(-meter.scale),
            limit=Decimal(alert.limit_units).scaleb(-meter.scale),
            crossed_at=alert.crossed_at,
            dismissed_at=alert.dismissed_at,
        )


@blueprint.get("/customers/<customer>/alerts")
@operation(
    "Alerts",
    scope="usage:read",
    query=PageQuery,
    answers=Page[AlertAnswer],
    refuses=("unknown-customer",),
    example=Example(path=DEMO),
)
def list_all(customer: str, query: PageQuery) -> Page[AlertAnswer]:
    """The alerts of the current period, newest first."""
    runtime = current_metering().runtime
    with runtime.transaction() as session:
        found = find_customer(session, customer_in_reach(customer))
        rows = list_alerts(session, found.id, now=runtime.clock(), before=query.after_id, limit=query.limit + 1)
    return page(rows, query, lambda row: row[0].id, lambda row: AlertAnswer.of(*row))
