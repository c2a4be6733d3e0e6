"""Alerts of a customer, and the thresholds at which it is alerted."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Literal, Self

from flask import Blueprint
from pydantic import Field, model_validator
from sqlalchemy.orm import Session

from metering.accounts.customers import find_customer
from metering.api.auth import current_metering, customer_in_reach
from metering.api.bodies import Body, InvalidRequest
from metering.api.changing import changing
from metering.api.operation import Example, operation
from metering.api.paging import PageQuery, page
from metering.api.preconditions import IF_MATCH, Tagged, require_match, tagged
from metering.api.shapes import EXAMPLE_CUSTOMER, Answer, Instant, Money, Number, Page, Quantity
from metering.limits.fired import Fired, list_alerts
from metering.limits.thresholds import (
    MOST_OWN,
    MOST_PERCENTS,
    BadThreshold,
    Kind,
    Threshold,
    check,
    own_thresholds,
    percents_of,
    replace_thresholds,
    set_percents,
)
from metering.models import Customer
from metering.money import round_money

blueprint = Blueprint("api_alerts", __name__, url_prefix="/api/v1")

THRESHOLDS = "/customers/<customer>/alert-thresholds"
DEMO = {"customer": EXAMPLE_CUSTOMER}

Percent = Annotated[int, Field(ge=1, le=1000)]


class PercentThreshold(Answer):
    """In percent of the meter's limit."""

    meter: str
    percent: int


class QuantityThreshold(Answer):
    """In the meter's unit."""

    meter: str
    quantity: Number


class AmountThreshold(Answer):
    """An amount of the bill, in the catalog's currency."""

    amount: Money


OwnThreshold = PercentThreshold | QuantityThreshold | AmountThreshold


class Thresholds(Answer):
    """`percents` of a limit, rising, hold for all meters. `inherited`: they are the catalog's, the customer has none of
    its own. `thresholds` are those of single meters and of the bill.
    """

    percents: list[int]
    inherited: bool
    thresholds: list[OwnThreshold]

    @classmethod
    def of(cls, session: Session, customer: Customer) -> Self:
        catalog = current_metering().runtime.catalog
        return cls(
            percents=list(percents_of(catalog, customer)),
            inherited=customer.alert_percents is None,
            thresholds=[_own(one, catalog.currency) for one in own_thresholds(session, customer.id)],
        )


def _own(one: Threshold, currency: str) -> OwnThreshold:
    if one.meter is None:
        return AmountThreshold(amount=f"{round_money(one.value, currency):f}")
    if one.kind == "percent":
        return PercentThreshold(meter=one.meter, percent=int(one.value))
    return QuantityThreshold(meter=one.meter, quantity=one.value)


@blueprint.get(THRESHOLDS)
@operation("Alerts", scope="admin", answers=Thresholds, refuses=("unknown-customer",), example=Example(path=DEMO))
def read_thresholds(customer: str) -> Tagged:
    """The thresholds that hold for a customer, with the ETag that If-Match takes."""
    with current_metering().runtime.transaction() as session:
        return tagged(Thresholds.of(session, find_customer(session, customer_in_reach(customer))))


class NewThreshold(Body):
    """Either `meter` with `percent` of its limit or with `quantity` in its unit, or `amount` of the bill."""

    meter: Annotated[str, Field(max_length=63, examples=["api_call"])] | None = None
    percent: Percent | None = None
    quantity: Annotated[Quantity, Field(examples=[5000])] | None = None
    amount: Annotated[Quantity, Field(examples=["50.00"])] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        given = {name for name in ("percent", "quantity", "amount") if getattr(self, name) is not None}
        if len(given) != 1 or (self.meter is None) != (given == {"amount"}):
            raise ValueError("must be a meter with a percent or a quantity, or an amount alone")
        return self

    def threshold(self) -> tuple[Threshold, str]:
        """It, and the name of the field that holds its value."""
        if self.amount is not None:
            return Threshold("money", None, self.amount), "amount"
        if self.quantity is not None:
            return Threshold("quantity", self.meter, self.quantity), "quantity"
        return Threshold("percent", self.meter, Decimal(self.percent or 0)), "percent"


class NewThresholds(Body):
    """`percents`: at most ten, for all meters; an empty list for none, null for the catalog's. `thresholds`: at most
    twenty, of single meters and of the bill; without it, what is there stays.
    """

    percents: Annotated[list[Percent], Field(max_length=MOST_PERCENTS, examples=[[50, 80, 100]])] | None
    thresholds: Annotated[list[NewThreshold], Field(max_length=MOST_OWN)] | None = None


@blueprint.put(THRESHOLDS)
@operation(
    "Alerts",
    scope="admin",
    body=NewThresholds,
    answers=Thresholds,
    refuses=("unknown-customer", "precondition-failed"),
    example=Example(
        path=DEMO,
        body={
            "percents": [50, 80, 100],
            "thresholds": [
                {"meter": "api_call", "percent": 90},
                {"meter": "tokens", "quantity": 500000},
                {"amount": "75.00"},
            ],
        },
    ),
    headers=(IF_MATCH,),
)
def put_thresholds(customer: str, body: NewThresholds) -> Tagged:
    """Set the thresholds of a customer. They hold for what is used from now on; each alerts once a period."""
    own = None if body.thresholds is None else _checked(body.thresholds)
    with changing() as change:
        found = change.customer(customer)
        require_match(Thresholds.of(change.session, found))
        set_percents(found, body.percents)
        if own is not None:
            replace_thresholds(change.session, found, own)
        present = Thresholds.of(change.session, found)
        change.note("alert_thresholds.change", found, **_noted(found, present))
        return tagged(present)


def _noted(customer: Customer, present: Thresholds) -> dict[str, object]:
    own = [
        " ".join(f"{value:f}" if isinstance(value, Decimal) else str(value) for value in dict(one).values())
        for one in present.thresholds
    ]
    return {"percents": customer.alert_percents, "thresholds": own}


def _checked(given: Sequence[NewThreshold]) -> list[Threshold]:
    """Raises InvalidRequest, which names what cannot be a threshold."""
    catalog = current_metering().runtime.catalog
    found, faults = [], []
    for number, one in enumerate(given):
        threshold, field = one.threshold()
        try:
            check(catalog, threshold)
        except BadThreshold as error:
            at = field if error.field == "value" else error.field
            faults.append({"field": f"thresholds.{number}.{at}", "message": error.message})
        found.append(threshold)
    if faults:
        shown = "; ".join(f"{fault['field']}: {fault['message']}" for fault in faults[:3])
        raise InvalidRequest(f"The body is not as it should be: {shown}", errors=faults)
    return found


class AlertAnswer(Answer):
    """`kind` says which threshold it was: `percent` of the `limit` of `meter` or `quantity` in its unit, both with what
    was `used` when it was noticed; or `money`: `amount` of the bill, which had come to `total`. What does not belong to
    the kind is null.
    """

    id: int
    kind: Literal["percent", "quantity", "money"]
    meter: str | None
    percent: int | None
    quantity: Number | None
    used: Number | None
    limit: Number | None
    amount: Money | None
    total: Money | None
    currency: str | None
    crossed_at: Instant
    dismissed_at: Instant | None

    @classmethod
    def of(cls, fired: Fired) -> Self:
        alert, meter = fired
        kind: Kind = alert.kind  # type: ignore[assignment]  # the table holds no other

        def quantity(units: int | None) -> Decimal | None:
            return None if units is None or meter is None else Decimal(units).scaleb(-meter.scale)

        return cls(
            id=alert.id,
            kind=kind,
            meter=None if meter is None else meter.key,
            percent=int(alert.value) if kind == "percent" else None,
            quantity=alert.value if kind == "quantity" else None,
            used=quantity(alert.units),
            limit=quantity(alert.limit_units),
            amount=f"{round_money(alert.value, alert.currency):f}" if alert.currency else None,
            total=None if alert.total is None else f"{alert.total:f}",
            currency=alert.currency,
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
    return page(rows, query, lambda row: row.alert.id, AlertAnswer.of)
