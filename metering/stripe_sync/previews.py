"""Stripe's preview of a subscription's next invoice: what it would bill for the usage of the period that runs.

Source: https://docs.stripe.com/api/invoices/create_preview. Base fees in it are those of the period to come.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.models import StripePrice, StripeSubscription
from metering.money import minor_digits
from metering.stripe_sync.asking import asking, moment
from metering.stripe_sync.gateway import StripeApi


def invoice_preview(session: Session, api: StripeApi, customer_id: int, starts_at: datetime) -> dict[str, Decimal]:
    """By meter key, what would be billed for the customer's period that begins at `starts_at`, in the currency's major
    unit; empty where no running subscription is in that period. Stripe is asked once.

    Raises StripeFailed.
    """
    subscription = session.scalars(
        select(StripeSubscription.stripe_id).where(
            StripeSubscription.account == api.account,
            StripeSubscription.customer_id == customer_id,
            StripeSubscription.ended_at.is_(None),
            StripeSubscription.period_starts_at == starts_at,
        )
    ).first()
    if subscription is None:
        return {}
    meters = dict(
        session.execute(
            select(StripePrice.stripe_id, StripePrice.meter).where(
                StripePrice.account == api.account, StripePrice.meter.is_not(None)
            )
        ).all()
    )
    amounts: dict[str, Decimal] = {}
    with asking():
        invoice: Any = api.client.v1.invoices.create_preview({"subscription": subscription})
        for line in invoice.lines.auto_paging_iter():
            meter = meters.get(line.pricing.price_details.price) if line.pricing else None
            if meter is not None and moment(line.period.start) == starts_at:
                digits = minor_digits(invoice.currency.upper())
                amounts[meter] = amounts.get(meter, Decimal(0)) + Decimal(line.amount).scaleb(-digits)
    return amounts
