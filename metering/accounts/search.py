"""Customers as operators look for them: by the beginning of a key, a name, a member's e-mail or Stripe's id.

Each of the four is found in an index of its own, whose ids are joined, so that no search reads through all customers.
"""

from collections.abc import Sequence

from sqlalchemy import func, select, union
from sqlalchemy.orm import Session

from metering.models import Customer, Membership, User


def search_customers(session: Session, *, text: str, after: str | None, limit: int) -> Sequence[Customer]:
    """Customers in the order of their keys, those behind `after`; all of them for an empty text."""
    query = select(Customer).order_by(Customer.key).limit(limit)
    if after is not None:
        query = query.where(Customer.key > after)
    if text:
        low = text.lower()
        members = select(Membership.customer_id).join(User, User.id == Membership.user_id)
        found = union(
            select(Customer.id).where(Customer.key.startswith(text, autoescape=True)),
            select(Customer.id).where(func.lower(Customer.name).startswith(low, autoescape=True)),
            select(Customer.id).where(Customer.stripe_customer_id == text),
            members.where(User.email.startswith(low, autoescape=True)),
        ).subquery()
        query = query.where(Customer.id.in_(select(found.c[0])))
    return session.scalars(query).all()
