"""What a customer may still use of each meter: its limit, what was used of it, and so whether it has access."""

from dataclasses import dataclass
from decimal import Decimal

from metering.intake.values import MeterStanding
from metering.service import Metering


@dataclass(frozen=True, slots=True)
class Entitlement:
    """In the meter's unit. Without a limit there is access always, and neither a limit nor a balance."""

    has_access: bool
    used: Decimal
    overage: Decimal
    limit: Decimal | None
    balance: Decimal | None


def entitlements(metering: Metering, customer: str) -> dict[str, Entitlement]:
    """Of all meters, at this moment. Raises UnknownCustomer, IntakeUnavailable."""
    standing = metering.standing(customer, metering.catalog.meters)
    active = standing.status == "active"
    return {one.meter: _entitlement(metering, one, active) for one in standing.meters}


def entitlement(metering: Metering, customer: str, feature: str) -> Entitlement | None:
    """Of one meter; None where there is no such meter. Raises UnknownCustomer, IntakeUnavailable."""
    known = [feature] if feature in metering.catalog.meters else []
    standing = metering.standing(customer, known)
    active = standing.status == "active"
    return next((_entitlement(metering, one, active) for one in standing.meters), None)


def _entitlement(metering: Metering, one: MeterStanding, active: bool) -> Entitlement:
    meter = metering.catalog.meter(one.meter)
    open_ended = one.limit is None
    return Entitlement(
        has_access=active and (one.mode != "hard" or bool(one.remaining)),
        used=meter.to_quantity(one.used),
        overage=meter.to_quantity(0 if one.limit is None else max(0, one.used - one.limit)),
        limit=None if open_ended else meter.to_quantity(one.limit or 0),
        balance=None if open_ended else meter.to_quantity(one.remaining or 0),
    )
