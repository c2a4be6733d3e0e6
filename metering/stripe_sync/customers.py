"""Which of Stripe's customers stands for which of ours. Ours is named in Stripe's metadata, under `metering_customer`.

Always holds: a customer that has an id at Stripe keeps it. Every link is in the audit log, with who made it.
"""

import hashlib
from datetime import datetime
from typing import Any

import stripe
from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.errors import Conflict, NotFound
from metering.models import AuditEntry, Customer
from metering.stripe_sync.asking import asking
from metering.stripe_sync.gateway import StripeApi

KEY = "metering_customer"


def find_or_create(session: Session, api: StripeApi, customer: Customer, *, now: datetime, actor: str) -> str:
    """The id of Stripe's customer for ours: the one that it has, else one whose metadata names it, else a new one.

    The caller commits. Raises StripeFailed, and Conflict where several of Stripe's customers name ours.
    """
    held = session.scalar(
        select(Customer.stripe_customer_id).where(Customer.id == customer.id).with_for_update(key_share=True)
    )
    if held is not None:
        return held
    found = _matching(api, customer.key)
    stripe_id = found or _create(api, customer)
    link(session, customer, stripe_id, now=now, actor=actor, how="matched" if found else "created")
    return stripe_id


def find_ours(session: Session, api: StripeApi, stripe_id: str) -> Customer | None:
    """Our customer for one of Stripe's: by the id we know, else by its metadata; None where that names none of ours.

    Raises StripeFailed.
    """
    linked = session.scalars(select(Customer).where(Customer.stripe_customer_id == stripe_id)).one_or_none()
    if linked is not None:
        return linked
    with asking():
        theirs: Any = api.client.v1.customers.retrieve(stripe_id)
    if getattr(theirs, "deleted", False) or not theirs.metadata or KEY not in theirs.metadata:
        return None
    return session.scalars(select(Customer).where(Customer.key == theirs.metadata[KEY])).one_or_none()


def ensure_link(session: Session, customer: Customer, stripe_id: str, *, now: datetime) -> None:
    """Write down what `find_ours` found. Raises Conflict where the customer has another id at Stripe."""
    session.refresh(customer, with_for_update={"key_share": True})
    if customer.stripe_customer_id is None:
        link(session, customer, stripe_id, now=now, actor="stripe", how="named by its metadata")
    elif customer.stripe_customer_id != stripe_id:
        raise Conflict(
            f"{stripe_id} names our customer {customer.key}, which is {customer.stripe_customer_id} at Stripe: "
            f"take {KEY} out of the metadata of the wrong one",
            customer=customer.key,
        )


def link(session: Session, customer: Customer, stripe_id: str, *, now: datetime, actor: str, how: str) -> None:
    """Write a customer's id at Stripe down. Raises Conflict where another customer has it."""
    taken = session.scalar(
        select(Customer.key).where(Customer.stripe_customer_id == stripe_id, Customer.id != customer.id)
    )
    if taken is not None:
        raise Conflict(f"{stripe_id} is our customer {taken!r}", customer=taken)
    customer.stripe_customer_id = stripe_id
    detail = {"stripe_customer": stripe_id, "how": how}
    session.add(AuditEntry(at=now, actor=actor, action="stripe.customer", customer_id=customer.id, detail=detail))
    session.flush()


def require_known(api: StripeApi, stripe_id: str, key: str) -> None:
    """Raises StripeFailed where Stripe knows no such customer, NotFound for one that was deleted there, and Conflict
    for one that its metadata gives to another customer of ours.
    """
    with asking():
        found: Any = api.client.v1.customers.retrieve(stripe_id)
    if getattr(found, "deleted", False):
        raise NotFound(f"{stripe_id} was deleted at Stripe")
    owner = found.metadata.to_dict().get(KEY, key) if found.metadata else key
    if owner != key:
        raise Conflict(f"{stripe_id} is the customer {owner} at Stripe, as its metadata says")


def _matching(api: StripeApi, key: str) -> str | None:
    """Stripe's search sees what was made a minute ago; what is younger, the Idempotency-Key of its making covers.

    A key holds no sign that the query language knows. Source: https://docs.stripe.com/search#search-query-language.
    """
    with asking():
        found = [one.id for one in api.client.v1.customers.search({"query": f"metadata['{KEY}']:'{key}'"}).data]
    if len(found) > 1:
        raise Conflict(f"several customers at Stripe name {key}: {', '.join(sorted(found))}", customer=key)
    return found[0] if found else None


def _create(api: StripeApi, customer: Customer) -> str:
    """Under one Idempotency-Key: a second try within 24 hours, after an answer that was lost, makes no second one."""
    params: stripe.params.CustomerCreateParams = {"name": customer.name, "metadata": {KEY: customer.key}}
    digest = hashlib.sha256(f"{api.account}\n{customer.key}\n{customer.name}".encode()).hexdigest()
    with asking():
        return api.client.v1.customers.create(params, {"idempotency_key": f"customer-{digest}"}).id
