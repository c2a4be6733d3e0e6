"""Customers: made, and changed in what the intake must learn of."""

import re
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.billing.periods import ensure_periods, zone
from metering.catalog import Catalog
from metering.errors import Conflict, MeteringError, UnknownCustomer
from metering.ids import partition_of
from metering.models import Customer, Period
from metering.store.state import touch

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class InvalidCustomer(MeteringError):
    code = "invalid-customer"


class UnknownPlan(MeteringError):
    code = "unknown-plan"


def create_customer(
    session: Session,
    catalog: Catalog,
    *,
    key: str,
    name: str,
    plan: str,
    partitions: int,
    now: datetime,
    timezone: str = "UTC",
    stripe_customer_id: str | None = None,
) -> Customer:
    """A new customer with its current and next billing period.

    Raises:
        InvalidCustomer, UnknownPlan, UnknownTimeZone: what was handed in is wrong.
        Conflict: there is a customer with this key.
    """
    if not KEY.fullmatch(key):
        raise InvalidCustomer("a customer's key holds 1 to 64 letters, digits, dots, dashes or underscores", key=key)
    if not name.strip():
        raise InvalidCustomer("a customer needs a name", key=key)
    check_plan(catalog, plan)
    zone(timezone)
    if session.scalar(select(Customer.id).where(Customer.key == key)) is not None:
        raise Conflict(f"there is a customer {key!r} already", key=key)
    customer = Customer(
        key=key,
        name=name.strip(),
        plan=plan,
        timezone=timezone,
        stripe_customer_id=stripe_customer_id,
        partition=partition_of(key, partitions),
        created_at=now,
    )
    session.add(customer)
    session.flush()
    ensure_periods(session, [customer], now)
    return customer


def check_plan(catalog: Catalog, plan: str) -> None:
    """Raises UnknownPlan."""
    if plan not in catalog.plans:
        raise UnknownPlan(f"there is no plan {plan!r}; there are: {', '.join(catalog.plans)}", plan=plan)


def find_customer(session: Session, key: str) -> Customer:
    """Raises UnknownCustomer."""
    customer = session.scalars(select(Customer).where(Customer.key == key)).one_or_none()
    if customer is None:
        raise UnknownCustomer(f"there is no customer {key!r}", customer=key)
    return customer


def set_status(session: Session, customer: Customer, status: str) -> None:
    """`active` or `suspended`: a suspended customer is served no metered call; what it owes stays."""
    customer.status = status
    session.flush()
    touch(session, [customer.id])


def change_plan(session: Session, catalog: Catalog, customer: Customer, plan: str, *, now: datetime) -> None:
    """Put a customer on another plan, from now on: the running period is billed by it. Raises UnknownPlan."""
    check_plan(catalog, plan)
    customer.plan = plan
    for period in session.scalars(select(Period).where(Period.customer_id == customer.id, Period.ends_at > now)):
        period.plan = plan
    touch(session, [customer.id])
