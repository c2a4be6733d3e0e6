"""Reservations over several requests: services in other languages hold quota before they work, and settle afterwards.

A reservation is known by a signed token that holds what the intake must be told to settle it, so nothing is kept of it
but the hold itself, which its lease frees when nobody comes back. Signed, because its time of admission decides what
period its usage counts in.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from itsdangerous import BadSignature, URLSafeSerializer

from metering.clock import from_micros
from metering.errors import InvalidUsage, MeteringError, NotFound
from metering.ids import new_id
from metering.intake.event import make_event
from metering.intake.refusals import StaleState
from metering.intake.values import Admission, Ask, MeterStanding, Settlement, Span
from metering.service import Metering

SOURCE = "reservation"
SALT = "metering.reservation"


class ReservationExpired(MeteringError):
    """Its lease ran out, or it was settled or released: nothing is held under it any more."""

    code = "reservation-expired"


@dataclass(frozen=True, slots=True)
class Reservation:
    """Held quota. `reserved` and `standings` are in scaled units; `key_id` is the API key that asked for it."""

    rid: str
    customer: str
    partition: int
    key_id: int
    admitted: int
    reserved: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Held:
    """A reservation that was just made, by its token."""

    token: str
    customer: str
    expires_at: datetime
    period: Span
    standings: tuple[MeterStanding, ...]


def reserve(
    metering: Metering, customer: str, quantities: Mapping[str, object], *, key_id: int, lease_seconds: float
) -> Held:
    """Hold so much of each meter, all or nothing, until it is settled, released, or its lease runs out.

    Raises:
        UnknownCustomer, UnknownMeter, BadQuantity, NotPermitted (suspended), IntakeUnavailable.
        LimitExceeded: a hard limit would be passed; nothing was held.
        RateLimited: it stands for a call, and these come too fast; nothing was held.
    """
    units = {meter: metering.catalog.meter(meter).to_units(quantity) for meter, quantity in quantities.items()}
    intake = metering.runtime.intake.with_lease(lease_seconds)
    partition, rid, now = intake.partition(customer), new_id(), metering.clock()
    ask = Ask(reserve=units, customer=customer)
    try:
        admission = intake.reserve(ask, rid=rid, partition=partition, now=now)
    except StaleState:
        metering.refresh(customer)
        admission = intake.reserve(ask, rid=rid, partition=partition, now=now)
    assert isinstance(admission, Admission)  # only an Idempotency-Key is ever replayed
    held = Reservation(rid, customer, partition, key_id, admission.admitted, units)
    expires_at = now + timedelta(seconds=lease_seconds)
    return Held(_write(metering, held), customer, expires_at, admission.period, admission.meters)


def read(metering: Metering, token: str) -> Reservation:
    """The reservation behind a token. Raises NotFound for one that is none of ours."""
    try:
        rid, customer, partition, key_id, admitted, reserved = _serializer(metering).loads(token)
    except (BadSignature, ValueError):
        raise NotFound("there is no such reservation") from None
    return Reservation(rid, customer, partition, key_id, admitted, reserved)


def settle(
    metering: Metering, held: Reservation, quantities: Mapping[str, object], properties: Mapping[str, Any]
) -> Settlement:
    """Record what was really used and give the rest back. Repeated, it changes nothing.

    A lease that ran out meanwhile does not matter to what is recorded; usage that passes a limit then is flagged.

    Raises:
        InvalidUsage, BadQuantity: a meter that was not reserved, a quantity that cannot be counted; nothing was
            recorded, and it may be settled with other figures.
        IntakeUnavailable: unknown whether it was recorded; settle again.
    """
    undeclared = [meter for meter in quantities if meter not in held.reserved]
    if undeclared:
        raise InvalidUsage(f"this reservation holds nothing of {', '.join(undeclared)}", field="quantities")
    events = [
        make_event(
            metering.catalog.meter(meter),
            customer=held.customer,
            quantity=quantity,
            source=SOURCE,
            id=f"{held.rid}:{meter}",
            admitted=held.admitted,
            properties=properties,
            key_id=held.key_id,
        )
        for meter, quantity in quantities.items()
    ]
    intake, admission = metering.runtime.intake, _admission(held)
    try:
        return intake.settle(admission, events, now=metering.clock())
    except StaleState:
        metering.refresh(held.customer)
        return intake.settle(admission, events, now=metering.clock())


def renew(metering: Metering, held: Reservation, lease_seconds: float) -> datetime:
    """Keep it for so long from now; until when. Raises ReservationExpired, IntakeUnavailable."""
    now = metering.clock()
    if not metering.runtime.intake.with_lease(lease_seconds).renew(_admission(held), now=now):
        raise ReservationExpired("this reservation holds nothing any more: it expired, or was settled or released")
    return now + timedelta(seconds=lease_seconds)


def release(metering: Metering, held: Reservation) -> None:
    """Give all of it back. Raises IntakeUnavailable; then its lease does the same."""
    metering.runtime.intake.release(_admission(held))


def _admission(held: Reservation) -> Admission:
    moment = from_micros(held.admitted)
    return Admission(
        rid=held.rid,
        partition=held.partition,
        customer=held.customer,
        key_id=held.key_id,
        period=Span(0, moment, moment),
        admitted=held.admitted,
        meters=(),
        reserved=(),
    )


def _write(metering: Metering, held: Reservation) -> str:
    parts = [held.rid, held.customer, held.partition, held.key_id, held.admitted, dict(held.reserved)]
    token: str = _serializer(metering).dumps(parts)
    return token


def _serializer(metering: Metering) -> URLSafeSerializer:
    return URLSafeSerializer(metering.settings.flask_secret, salt=SALT)
