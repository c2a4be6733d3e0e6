"""What the intake must know of customers and keys, sent to Redis after commit and by a sweep until it has arrived.

Always holds: Redis takes only a newer version, so late or repeated sending does no harm; whoever changes something that
the intake knows calls `touch` in the same transaction.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, cast

from redis import Redis
from sqlalchemy import CursorResult, or_, select, update
from sqlalchemy.orm import Session

from metering.catalog import Catalog
from metering.clock import to_micros
from metering.ids import text_digest
from metering.intake import scripts
from metering.models import ApiKey, Customer, Period

SWEEP = 500


def touch(session: Session, customer_ids: Iterable[int]) -> None:
    """Mark customers whose state in Redis is out of date from this transaction on."""
    session.execute(
        update(Customer).where(Customer.id.in_(customer_ids)).values(state_version=Customer.state_version + 1)
    )


def touch_outdated(session: Session, catalog: Catalog) -> int:
    """Mark customers to whom other terms were sent than this catalog's, for its file was changed; how many."""
    outdated = Customer.sent_terms.is_distinct_from(terms_fingerprint(catalog))
    result = session.execute(update(Customer).where(outdated).values(state_version=Customer.state_version + 1))
    return cast("CursorResult[Any]", result).rowcount


def terms_fingerprint(catalog: Catalog) -> str:
    """Equal for catalogs that tell the intake the same of every plan."""
    return text_digest(str({key: plan_fields(catalog, key) for key in sorted(catalog.plans)}))


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
    if not customers:
        return
    periods = _periods_around(session, [customer.id for customer in customers], now)
    terms = terms_fingerprint(catalog)
    for customer in customers:
        fields = customer_fields(catalog, customer, periods.get(customer.id, []), now)
        args = [part for pair in fields.items() for part in pair]
        scripts.run(redis, "push", customer.partition, f"c:{customer.key}", customer.state_version, *args)
        customer.sent_version, customer.sent_terms = customer.state_version, terms


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
    """The fields of a customer's state: status, the current, coming and (while open) past period, terms of each."""
    fields = {"s": customer.status}
    past = [period for period in periods if period.ends_at <= now and period.closed_at is None]
    running = [period for period in periods if period.ends_at > now][:2]
    if past:
        fields["pp"] = _span(past[-1])
    for place, period in enumerate(running):
        fields[f"p{place}"] = _span(period)
        for name, value in plan_fields(catalog, period.plan).items():
            fields[f"{place}:{name}"] = value
    return fields


def plan_fields(catalog: Catalog, plan_key: str) -> dict[str, str]:
    """What the intake must know of a plan: its limits by meter, and under names that no meter can have its key and
    rates. A meter without a limit is not there."""
    plan = catalog.plans[plan_key]
    fields = {"@plan": plan_key}
    for scope, rate in (("customer", plan.rate.customer), ("key", plan.rate.key)):
        if rate is not None:
            fields[f"@{scope}"] = f"{rate.count}|{rate.seconds}|{rate.burst}|{rate.interval_micros}"
    for meter in catalog.meters.values():
        units, mode = catalog.limit_units(plan_key, meter)
        if units is not None:
            fields[meter.key] = f"{mode}|{units}"
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
