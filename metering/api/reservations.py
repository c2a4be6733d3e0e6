"""Reservations over HTTP: hold before the work, settle after it, or give it back."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from flask import Blueprint
from pydantic import Field

from metering import reservations
from metering.api.auth import current_caller, current_metering, customer_in_reach
from metering.api.bodies import Body
from metering.api.operation import Answered, Example, operation
from metering.api.shapes import EXAMPLE_CUSTOMER, Answer, CustomerKey, Instant, Number, PeriodSpan, Quantity
from metering.intake.values import MeterStanding
from metering.reservations import Held, Reservation

blueprint = Blueprint("api_reservations", __name__, url_prefix="/api/v1")

LEASE_SECONDS = 30
MAX_LEASE_SECONDS = 3600

RESERVED = {"reservation": Answered("reservations_reserve", "id")}

LeaseSeconds = Annotated[int, Field(ge=1, le=MAX_LEASE_SECONDS)]


class ReserveBody(Body):
    """`quantities`: how much to hold of each meter, in its unit. Held for `lease_seconds` unless renewed."""

    customer: CustomerKey | None = None
    quantities: dict[str, Quantity] = Field(min_length=1, max_length=20)
    lease_seconds: LeaseSeconds = LEASE_SECONDS


class SettleBody(Body):
    """`quantities`: what was really used of the meters that were reserved; what is left out was not used at all."""

    quantities: dict[str, Quantity] = Field(max_length=20)
    properties: dict[str, Any] = Field(default_factory=dict)


class RenewBody(Body):
    lease_seconds: LeaseSeconds = LEASE_SECONDS


class HeldMeter(Answer):
    """Where the customer stands on a meter, in its unit, with what this and other reservations hold."""

    meter: str
    used: Number
    held: Number
    limit: Number | None
    remaining: Number | None


class ReservationAnswer(Answer):
    id: str
    customer: str
    expires_at: Instant
    period: PeriodSpan
    meters: list[HeldMeter]

    @classmethod
    def of(cls, held: Held) -> "ReservationAnswer":
        return cls(
            id=held.token,
            customer=held.customer,
            expires_at=held.expires_at,
            period=PeriodSpan(start=held.period.starts_at, end=held.period.ends_at),
            meters=[_meter(one) for one in held.standings],
        )


class Renewed(Answer):
    expires_at: Instant


class SettledMeter(HeldMeter):
    """`overshoot`: it took the customer past a hard limit."""

    overshoot: bool


class Settled(Answer):
    """`duplicate`: it had been settled before, and was not counted again."""

    duplicate: bool
    meters: list[SettledMeter]


@blueprint.post("/reservations")
@operation(
    "Reservations",
    scope="events:write",
    body=ReserveBody,
    answers=ReservationAnswer,
    status=201,
    refuses=("unknown-customer", "unknown-meter", "bad-quantity", "limit-exceeded", "rate-limited"),
    example=Example(body={"customer": EXAMPLE_CUSTOMER, "quantities": {"tokens": 500, "api_call": 1}}, status=201),
)
def reserve(body: ReserveBody) -> ReservationAnswer:
    """Hold quota before the work is done: all of it or nothing. Its lease frees it when nobody comes back.

    It stands for a call, so it counts against the customer's rate.
    """
    held = reservations.reserve(
        current_metering(),
        customer_in_reach(body.customer),
        body.quantities,
        key_id=current_caller().key_id,
        lease_seconds=body.lease_seconds,
    )
    return ReservationAnswer.of(held)


@blueprint.post("/reservations/<reservation>/settle")
@operation(
    "Reservations",
    scope="events:write",
    body=SettleBody,
    answers=Settled,
    refuses=("not-found", "unknown-customer", "invalid-usage", "bad-quantity", "usage-conflict"),
    example=Example(path=RESERVED, body={"quantities": {"tokens": 42, "api_call": 1}}),
)
def settle(reservation: str, body: SettleBody) -> Settled:
    """Record what was really used and give the rest back, in one step that may be repeated."""
    settlement = reservations.settle(current_metering(), _in_reach(reservation), body.quantities, body.properties)
    return Settled(
        duplicate=settlement.duplicate,
        meters=[SettledMeter(**_meter(one).model_dump(), overshoot=one.overshoot) for one in settlement.meters],
    )


@blueprint.post("/reservations/<reservation>/renew")
@operation(
    "Reservations",
    scope="events:write",
    body=RenewBody,
    answers=Renewed,
    refuses=("not-found", "unknown-customer", "reservation-expired"),
    example=Example(path=RESERVED, body={"lease_seconds": 60}),
)
def renew(reservation: str, body: RenewBody) -> Renewed:
    """Keep what is held for so long from now on, for work that takes longer than its lease."""
    until: datetime = reservations.renew(current_metering(), _in_reach(reservation), body.lease_seconds)
    return Renewed(expires_at=until)


@blueprint.post("/reservations/<reservation>/release")
@operation(
    "Reservations",
    scope="events:write",
    refuses=("not-found", "unknown-customer"),
    example=Example(path=RESERVED, status=204),
)
def release(reservation: str) -> None:
    """Give back all of it: the work failed, so it consumes nothing. May be repeated."""
    reservations.release(current_metering(), _in_reach(reservation))


def _in_reach(token: str) -> Reservation:
    """Raises NotFound, UnknownCustomer: it is none, or another customer's."""
    held = reservations.read(current_metering(), token)
    customer_in_reach(held.customer)
    return held


def _meter(one: MeterStanding) -> HeldMeter:
    meter = current_metering().catalog.meter(one.meter)

    def quantity(units: int | None) -> Decimal | None:
        return None if units is None else meter.to_quantity(units)

    return HeldMeter(
        meter=one.meter,
        used=meter.to_quantity(one.used),
        held=meter.to_quantity(one.held),
        limit=quantity(one.limit),
        remaining=quantity(one.remaining),
    )
