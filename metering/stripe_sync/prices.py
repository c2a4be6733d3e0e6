"""Which of Stripe's prices a plan consists of, and which plan a subscription's prices are: as `push` wrote it down."""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.models import StripePrice


def prices_of(session: Session, account: str, plan: str) -> list[str]:
    """The ids of what a new subscription to a plan consists of: its base fee first, then its metered prices.

    Empty where the plan was not pushed to this account and mode.
    """
    query = (
        select(StripePrice.stripe_id)
        .where(StripePrice.account == account, StripePrice.current, StripePrice.plans.contains([plan]))
        .order_by(StripePrice.meter.is_not(None), StripePrice.meter)
    )
    return list(session.scalars(query))


def plan_of(session: Session, account: str, price_ids: Collection[str]) -> str | None:
    """The key of the plan whose base fee, today's or one of before, is among these prices.

    None where there is none, or those of two plans: then the prices do not say.
    """
    query = select(StripePrice.plans).where(
        StripePrice.account == account, StripePrice.meter.is_(None), StripePrice.stripe_id.in_(price_ids)
    )
    plans = {plan for plans in session.scalars(query) for plan in plans}
    return plans.pop() if len(plans) == 1 else None
