"""Customers: made, and changed in what the intake must learn of."""

import re
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Select, func, or_, select
from sqlalchemy.orm import Session

from metering.billing.periods import PlanStart, ensure_periods, set_plan
from metering.billing.rhythm import zone
from metering.catalog import Catalog
from metering.errors import Conflict, MeteringError, UnknownCustomer
from metering.ids import partition_of
from metering.models import Customer
from metering.settings import Settings
from metering.store.state import touch
from metering.stripe_sync.mirror import running_subscription
from metering.stripe_sync.relink import relink

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
STRIPE_ID = re.compile("cus_[A-Za-z0-9]{1,250}")


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
        raise InvalidCustomer(
            "a customer's key holds 1 to 64 letters, digits, dots, dashes or underscores", key=key, field="key"
        )
    check_plan(catalog, plan)
    zone(timezone)
    if session.scalar(select(Customer.id).where(Customer.key == key)) is not None:
        raise Conflict(f"there is a customer {key!r} already", key=key)
    customer = Customer(
        key=key,
        name=checked_name(name, key),
        plan=plan,
        timezone=timezone,
        stripe_customer_id=checked_stripe_id(stripe_customer_id, key),
        partition=partition_of(key, partitions),
        created_at=now,
    )
    session.add(customer)
    session.flush()
    ensure_periods(session, [customer], now)
    return customer


def checked_name(name: str, key: str) -> str:
    """Raises InvalidCustomer."""
    if not name.strip() or not name.isprintable():
        raise InvalidCustomer("a customer needs a name in plain characters", key=key, field="name")
    return name.strip()


def checked_stripe_id(stripe_id: str | None, key: str) -> str | None:
    """Raises InvalidCustomer: a mistyped id is found out here, not where usage has been reported under it."""
    if stripe_id is not None and not STRIPE_ID.fullmatch(stripe_id):
        raise InvalidCustomer(
            f"{stripe_id!r} is no id of a Stripe customer: cus_ and letters or digits",
            key=key,
            field="stripe_customer_id",
        )
    return stripe_id


def check_plan(catalog: Catalog, plan: str) -> None:
    """Raises UnknownPlan."""
    if plan not in catalog.plans:
        raise UnknownPlan(f"there is no plan {plan!r}; there are: {', '.join(catalog.plans)}", plan=plan)


def find_customer(session: Session, key: str) -> Customer:
    """Raises UnknownCustomer."""
    return _found(session, select(Customer).where(Customer.key == key), key)


def lock_customer(session: Session, key: str) -> Customer:
    """A customer as it stands, for this transaction alone to change. Raises UnknownCustomer."""
    query = select(Customer).where(Customer.key == key).with_for_update(key_share=True)
    return _found(session, query.execution_options(populate_existing=True), key)


def _found(session: Session, query: Select[Customer], key: str) -> Customer:
    customer = session.scalars(query).one_or_none() if KEY.fullmatch(key) else None
    if customer is None:
        raise UnknownCustomer(f"there is no customer {key!r}", customer=key)
    return customer


def list_customers(session: Session, *, begins: str | None, after: str | None, limit: int) -> Sequence[Customer]:
    """Customers in the order of their keys, those behind `after`; `begins` is how a key or a name begins."""
    query = select(Customer).order_by(Customer.key).limit(limit)
    if after is not None:
        query = query.where(Customer.key > after)
    if begins:
        by_key = Customer.key.startswith(begins, autoescape=True)
        by_name = func.lower(Customer.name).startswith(begins.lower(), autoescape=True)
        query = query.where(or_(by_key, by_name))
    return session.scalars(query).all()


def change_customer(session: Session, customer: Customer, *, name: str | None, timezone: str | None) -> None:
    """Rename a customer, or move it to another time zone: periods that are not stored yet follow that one.

    Raises InvalidCustomer, UnknownTimeZone.
    """
    if name is not None:
        customer.name = checked_name(name, customer.key)
    if timezone is not None:
        customer.timezone = zone(timezone).key
    session.flush()


def link_with_stripe(
    session: Session, settings: Settings, customer: Customer, stripe_id: str | None, *, now: datetime, actor: str
) -> None:
    """Say which customer of Stripe's a locked customer is, or none (yet).

    Raises InvalidCustomer, and what `stripe_sync.relink.relink` does: Conflict, StripeFailed, ConfigurationError.
    """
    relink(session, settings, customer, checked_stripe_id(stripe_id, customer.key), now=now, actor=actor)


def set_status(session: Session, customer: Customer, status: str) -> None:
    """`active` or `suspended`: a suspended customer is served no metered call; what it owes stays."""
    customer.status = status
    session.flush()
    touch(session, [customer.id])


def change_plan(
    session: Session,
    settings: Settings,
    catalog: Catalog,
    customer: Customer,
    plan: str,
    *,
    when: PlanStart = "now",
    now: datetime,
) -> None:
    """Put a customer on another plan: `now`, so that the running period is billed by it, or with the next period.

    Raises:
        UnknownPlan: the catalog has none of this name.
        Conflict: a subscription of the customer's runs at Stripe, whose plan is the customer's. Another one here would
            have the books and the invoice say different things, until Stripe tells of that subscription again.
    """
    check_plan(catalog, plan)
    if (running := running_subscription(session, settings, customer.id)) is not None:
        if plan == customer.plan:
            return
        raise Conflict(
            f"{running.stripe_id} runs at Stripe, and its plan is the customer's: change or cancel it there",
            customer=customer.key,
        )
    set_plan(session, customer, plan, when=when, now=now)
    touch(session, [customer.id])
