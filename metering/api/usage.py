"""What API consumers ask about themselves: usage, limits, the bill so far."""

from decimal import ROUND_HALF_UP, Decimal
from typing import Literal, Self

from flask import Blueprint
from pydantic import Field

from metering.api.auth import current_metering, customer_in_reach
from metering.api.bodies import Body, Query
from metering.api.operation import Example, operation
from metering.api.shapes import Answer, CustomerKey, Instant, Money, Number, PeriodSpan, Quantity
from metering.billing.estimate import Estimate, EstimateLine
from metering.billing.pricing import DIGITS
from metering.service import Check, MeterUsage

blueprint = Blueprint("api_usage", __name__, url_prefix="/api/v1")


class OfCustomer(Query):
    """`customer`: an operator's key says for whom it asks; a customer's own key need not."""

    customer: CustomerKey | None = None


class MeterStanding(Answer):
    """Where a customer stands on a meter, in the meter's unit; `included` is in the unit of the price."""

    meter: str
    unit: str
    used: Number
    limit: Number | None
    remaining: Number | None
    included: Number | None
    included_unit: str | None
    percent: Number | None
    resets_at: Instant | None

    @classmethod
    def of(cls, usage: MeterUsage, **more: object) -> Self:
        return cls(
            meter=usage.meter,
            unit=usage.unit,
            used=usage.used,
            limit=usage.limit,
            remaining=usage.remaining,
            included=usage.included,
            included_unit=usage.included_unit,
            percent=usage.percent,
            resets_at=usage.resets_at,
            **more,
        )


class UsageSummary(Answer):
    customer: str
    plan: str
    period: PeriodSpan
    meters: list[MeterStanding]


@blueprint.get("/usage")
@operation("Usage", scope="usage:read", query=OfCustomer, answers=UsageSummary, refuses=("unknown-customer",))
def usage(query: OfCustomer) -> UsageSummary:
    """The live usage of the current billing period, a line a meter."""
    summary = current_metering().summary(customer_in_reach(query.customer))
    return UsageSummary(
        customer=summary.customer,
        plan=summary.plan,
        period=PeriodSpan(start=summary.period.starts_at, end=summary.period.ends_at),
        meters=[MeterStanding.of(one) for one in summary.meters],
    )


class LimitStanding(MeterStanding):
    """`mode`: a `hard` limit refuses, a `soft` one is shown and alerted, `none` is no limit. `held`: what running calls
    have reserved."""

    name: str
    mode: Literal["hard", "soft", "none"]
    held: Number


class Limits(Answer):
    customer: str
    plan: str
    period: PeriodSpan
    limits: list[LimitStanding]


@blueprint.get("/limits")
@operation("Limits", scope="usage:read", query=OfCustomer, answers=Limits, refuses=("unknown-customer",))
def limits(query: OfCustomer) -> Limits:
    """All limits of the plan, with what is used, held and left of each."""
    summary = current_metering().summary(customer_in_reach(query.customer))
    return Limits(
        customer=summary.customer,
        plan=summary.plan,
        period=PeriodSpan(start=summary.period.starts_at, end=summary.period.ends_at),
        limits=[_limit(one) for one in summary.meters if one.limit is not None],
    )


def _limit(one: MeterUsage) -> LimitStanding:
    return LimitStanding.of(one, name=one.name, mode=one.limit_mode, held=one.held)


class LimitQuery(OfCustomer):
    """`quantity`: how much more is asked for, in the meter's unit."""

    quantity: str = Field(default="1", examples=["1", "0.5"])


class CheckAnswer(MeterStanding):
    allowed: bool


@blueprint.get("/limits/<meter>")
@operation(
    "Limits",
    scope="usage:read",
    query=LimitQuery,
    answers=CheckAnswer,
    refuses=("unknown-customer", "unknown-meter", "bad-quantity", "invalid-usage"),
    example=Example(path={"meter": "tokens"}, query={"quantity": "100"}),
)
def limit(meter: str, query: LimitQuery) -> CheckAnswer:
    """Whether `quantity` more would be let in right now. Holds nothing: another call may be faster."""
    customer = customer_in_reach(query.customer)
    return _checked(current_metering().check_limit(customer, meter, query.quantity))


class CheckBody(Body):
    """`quantities`: how much more of each meter, in its unit. All must fit for the whole to be allowed."""

    customer: CustomerKey | None = None
    quantities: dict[str, Quantity] = Field(min_length=1, max_length=20)


class Checks(Answer):
    """`allowed`: whether all of it would be let in at once."""

    customer: str
    allowed: bool
    checks: list[CheckAnswer]


@blueprint.post("/check")
@operation(
    "Limits",
    scope="usage:read",
    body=CheckBody,
    answers=Checks,
    refuses=("unknown-customer", "unknown-meter", "bad-quantity", "invalid-usage"),
    example=Example(body={"quantities": {"api_call": 1, "tokens": 500}}),
)
def check(body: CheckBody) -> Checks:
    """Whether a call that uses all of this would be let in right now. Holds nothing; to hold it, reserve."""
    customer = customer_in_reach(body.customer)
    found = current_metering().check_limits(customer, body.quantities)
    return Checks(customer=customer, allowed=all(one.allowed for one in found), checks=[_checked(one) for one in found])


def _checked(found: Check) -> CheckAnswer:
    return CheckAnswer.of(found.usage, allowed=found.allowed)


SHOWN_PLACES = Decimal("1e-9")
"""As many as the finest of meters keeps. In the unit of a price a quantity may be a quotient that never ends."""


def _shown(quantity: Decimal) -> Decimal:
    """Half up, like money: to be read, not to be computed with. Amounts are computed from the quotient itself."""
    return quantity.quantize(SHOWN_PLACES, ROUND_HALF_UP, DIGITS)


class EstimateLineAnswer(Answer):
    """`billable` is `quantity` less `included`; both are rounded to nine decimal places, after `amount` was computed
    from all their digits and rounded once. The base fee has an amount only.
    """

    name: str
    meter: str | None
    amount: Money
    unit: str | None = None
    quantity: Number | None = None
    included: Number | None = None
    billable: Number | None = None
    unit_price: Number | None = None

    @classmethod
    def of(cls, line: EstimateLine) -> Self:
        priced = line.usage
        return cls(
            name=line.name,
            meter=line.meter,
            amount=str(line.amount),
            unit=priced.unit if priced else None,
            quantity=_shown(priced.quantity) if priced else None,
            included=priced.included if priced else None,
            billable=_shown(priced.billable) if priced else None,
            unit_price=priced.unit_price if priced else None,
        )


class EstimateAnswer(Answer):
    """What the period would cost if it ended `as_of` then. The lines add up to `total`."""

    customer: str
    plan: str
    period: PeriodSpan
    as_of: Instant
    currency: str
    lines: list[EstimateLineAnswer]
    total: Money

    @classmethod
    def of(cls, found: Estimate) -> Self:
        return cls(
            customer=found.customer,
            plan=found.plan,
            period=PeriodSpan(start=found.starts_at, end=found.ends_at),
            as_of=found.as_of,
            currency=found.currency,
            lines=[EstimateLineAnswer.of(line) for line in found.lines],
            total=str(found.total),
        )


@blueprint.get("/estimate")
@operation(
    "Usage",
    scope="usage:read",
    query=OfCustomer,
    answers=EstimateAnswer,
    refuses=("unknown-customer", "period-unknown"),
)
def estimate(query: OfCustomer) -> EstimateAnswer:
    """What the current period costs so far, line by line. Amounts of money are decimal strings."""
    return EstimateAnswer.of(current_metering().estimate(customer_in_reach(query.customer)))
