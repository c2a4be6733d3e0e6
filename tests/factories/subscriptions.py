"""Subscriptions as the mirror keeps them, without Stripe."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from metering.models import Customer, StripeSubscription

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
