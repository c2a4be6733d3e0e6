"""What a customer may still use of each meter: its limit, what was used of it, and so whether it has access."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy.orm import Session

from metering.accounts.customers import find_customer
from metering.billing.periods import PeriodUnknown, current_period
from metering.errors import InvalidQuery
from metering.intake.values import MeterStanding
from metering.models import Period
from metering.service import Metering
from metering.store.usage_query import UsageQuery, query_usage


@dataclass(frozen=True, slots=True)
class Entitlement:
    """In the meter's unit. Without a limit there is access always, and neither a limit nor a balance; of a meter that
    is not counted live the usage is not known either.
    """

    has_access: bool
    used: Decimal | None
    overage: Decimal | None
    limit: Decimal | None
    balance: Decimal | None


def entitlements(metering: Metering, customer: str) -> dict[str, Entitlement]:
    """Of all meters, at this moment. Raises UnknownCustomer, IntakeUnavailable."""
    standing = metering.standing(customer, metering.catalog.meters)
    active = standing.status == "active"
    return {one.meter: _entitlement(metering, one, active) for one in standing.meters}


def entitlement(metering: Metering, customer: str, feature: str, at: datetime | None = None) -> Entitlement | None:
    """Of one meter, now or as it was `at` an earlier moment; None where there is no such meter.

    Raises:
        UnknownCustomer, IntakeUnavailable.
        InvalidQuery: the customer has no billing period that holds `at`.
    """
    known = [feature] if feature in metering.catalog.meters else []
    standing = metering.standing(customer, known)
    if not standing.meters:
        return None
    active = standing.status == "active"
    if at is None or at >= metering.clock():
        return _entitlement(metering, standing.meters[0], active)
    return _entitlement(metering, _as_it_was(metering, customer, feature, at), active)


def _as_it_was(metering: Metering, customer: str, feature: str, at: datetime) -> MeterStanding:
    """From what is stored: the usage of that billing period until then, or the level at that moment."""
    meter = metering.catalog.meter(feature)
    asked = meter.model_copy(update={"aggregation": "latest"}) if meter.is_level else meter
    with metering.runtime.transaction() as session:
        period = _period_at(session, customer, at)
        query = UsageQuery(asked, from_=period.starts_at, to=at, customers=[customer])
        rows = query_usage(session, query, now=metering.clock()) if at > period.starts_at else []
        limit, mode = metering.catalog.limit_units(period.plan, meter)
    used = meter.to_units(rows[0].value, signed=True) if rows and meter.counts_live else 0
    return MeterStanding(feature, mode, limit, used, held=0)


def _period_at(session: Session, customer: str, at: datetime) -> Period:
    try:
        return current_period(session, find_customer(session, customer).id, at)
    except PeriodUnknown:
        raise InvalidQuery("the customer has no billing period that holds this moment", field="time") from None


def _entitlement(metering: Metering, one: MeterStanding, active: bool) -> Entitlement:
    meter = metering.catalog.meter(one.meter)
    open_ended = one.limit is None
    if meter.observes:
        return Entitlement(active, used=None, overage=None, limit=None, balance=None)
    return Entitlement(
        has_access=active and (one.mode != "hard" or bool(one.remaining)),
        used=meter.to_quantity(one.used),
        overage=meter.to_quantity(0 if one.limit is None else max(0, one.used - one.limit)),
        limit=None if open_ended else meter.to_quantity(one.limit or 0),
        balance=None if open_ended else meter.to_quantity(one.remaining or 0),
    )
