"""What the intake must know of customers and keys, sent to Redis after commit and by a sweep until it has arrived.

Always holds: Redis takes only a newer version, so late or repeated sending does no harm; whoever changes something that
the intake knows calls `touch` in the same transaction.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from redis import Redis
from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from metering.catalog import Catalog
from metering.clock import to_micros
from metering.intake import scripts
from metering.models import ApiKey, Customer, Period

SWEEP = 500


def touch(session: Session, customer_ids: Iterable[int]) -> None:
    """Mark customers whose state in Redis is out of date from this transaction on."""
    session.execute(
        update(Customer).where(Customer.id.in_(customer_ids)).values(state_version=Customer.state_version + 1)
    )


def send_unsent(session: Session, redis: Redis, catalog: Catalog, *, now: datetime) -> int:
    """Send what was changed and not sent yet; how many. The caller commits. Raises IntakeUnavailable."""
    customers = session.scalars(
        select(Customer).where(Customer.sent_version < Customer.state_version).order_by(Customer.id).limit(SWEEP)
    ).all()
    keys = session.scalars(
        select(ApiKey).where(ApiKey.sent_version < ApiKey.state_version).order_by(ApiKey.id).limit(SWEEP)
    ).all()
    send_customers(session, redis, catalog, customers, now=now)
    send_keys(session, redis, keys)
    return len(customers) + len(keys)


def send_customers(
    session: Session, redis: Redis, catalog: Catalog, customers: Sequence[Customer], *, now: datetime
) -> None:
    """Send the state of these customers as it stands in this transaction."""
    periods = _periods_around(session, [customer.id for customer in customers], now)
    for customer in customers:
        fields = customer_fields(catalog, customer, periods.get(customer.id, []), now)
        args = [part for pair in fields.items() for part in pair]
        scripts.run(redis, "push", customer.partition, f"c:{customer.key}", customer.state_version, *args)
        customer.sent_version = customer.state_version


def send_keys(session: Session, redis: Redis, keys: Sequence[ApiKey]) -> None:
    ids = {key.customer_id for key in keys if key.customer_id is not None}
    rows = session.execute(select(Customer.id, Customer.key).where(Customer.id.in_(ids)))
    names = {row.id: row.key for row in rows}
    for key in keys:
        customer = names[key.customer_id] if key.customer_id is not None else ""
        fields = ["c", customer, "i", str(key.id), "s", " ".join(key.scopes), "x", "1" if key.revoked_at else "0"]
        fields += ["e", str(to_micros(key.expires_at)) if key.expires_at else ""]
        scripts.run(redis, "push", key.partition, f"k:{key.digest}", key.state_version, *fields)
        key.sent_version = key.state_version


def customer_fields(catalog: Catalog, customer: Customer, periods: Sequence[Period], now: datetime) -> dict[str, str]:
    """The fields of a customer's state: status, the current, coming and (while open) past period, limits of each."""
    fields = {"s": customer.status}
    past = [period for period in periods if period.ends_at <= now and period.closed_at is None]
    running = [period for period in periods if period.ends_at > now][:2]
    if past:
        fields["pp"] = _span(past[-1])
    for place, period in enumerate(running):
        fields[f"p{place}"] = _span(period)
        fields[f"{place}:plan"] = period.plan
        for meter in catalog.meters.values():
            units, mode = catalog.limit_units(period.plan, meter)
            fields[f"{place}:{meter.key}"] = f"{mode}|{'' if units is None else units}"
    return fields


def _periods_around(session: Session, customer_ids: Sequence[int], now: datetime) -> dict[int, list[Period]]:
    """Periods that are open or yet to come, by customer, in order."""
    found: dict[int, list[Period]] = {}
    query = (
        select(Period)
        .where(Period.customer_id.in_(customer_ids), or_(Period.closed_at.is_(None), Period.ends_at > now))
        .order_by(Period.customer_id, Period.starts_at)
    )
    for period in session.scalars(query):
        found.setdefault(period.customer_id, []).append(period)
    return found


def _span(period: Period) -> str:
    return f"{period.id}|{to_micros(period.starts_at)}|{to_micros(period.ends_at)}"
