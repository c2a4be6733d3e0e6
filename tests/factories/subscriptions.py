"""Subscriptions and invoices as the mirror keeps them, without Stripe."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

from sqlalchemy.orm import Session

from metering.models import Customer, Invoice, StripeSubscription

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def subscribed(
    session: Session, customer: Customer, account: str, since: datetime = LONG_AGO, **more: Any
) -> StripeSubscription:
    """Let usage of this customer be owed to Stripe. Its periods stay as they are. Not committed."""
    values = {
        "status": "active",
        "plan": customer.plan,
        "price_ids": [],
        "period_starts_at": since,
        "period_ends_at": datetime(2099, 1, 1, tzinfo=UTC),
        "anchor": since,
        "cycle": "1 month",
        "fetched_at": since,
    }
    values |= {"stripe_id": f"sub_{customer.key}"} | more
    row = StripeSubscription(account=account, customer_id=customer.id, starts_at=since, **values)
    session.add(row)
    session.flush()
    return row


def invoiced(session: Session, customer: Customer, at: datetime, **more: Any) -> Invoice:
    """An invoice of a moment, as the mirror keeps it. Not committed."""
    values = {
        "stripe_id": f"in_{customer.key}_{uuid4()}",
        "number": "A-0001",
        "status": "paid",
        "period_starts_at": at,
        "period_ends_at": at,
        "currency": "USD",
        "total": Decimal(49),
        "amount_due": Decimal(49),
        "amount_paid": Decimal(0),
        "issued_at": at,
        "fetched_at": at,
    }
    row = Invoice(account="acct_test", customer_id=customer.id, **(values | more))
    session.add(row)
    session.flush()
    return row
