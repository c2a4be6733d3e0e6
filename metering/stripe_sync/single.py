"""A customer has one subscription at a time: of two, each would bill the same usage.

Buying asks Stripe itself, whose messages may be late, and leaves one checkout open at a time, so that of several tabs
only the newest can be paid. What comes to be twice all the same, by hand at Stripe say, is told by `verify`, by
`stripe status` and on the plan page, and an operator ends one of them.

Source: https://docs.stripe.com/api/checkout/sessions/expire, https://docs.stripe.com/api/subscriptions/cancel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import stripe
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from metering.errors import Conflict, NotFound
from metering.models import AuditEntry, Customer, StripeSubscription
from metering.stripe_sync.asking import asking
from metering.stripe_sync.gateway import StripeApi, StripeFailed, outcome_of
from metering.stripe_sync.mirror import RUNNING


@dataclass(frozen=True, slots=True)
class Doubled:
    """A customer whose usage several running subscriptions bill, the oldest first."""

    account: str
    customer: str
    subscriptions: tuple[str, ...]


def doubled(session: Session, *, customer_id: int | None = None) -> list[Doubled]:
    """Customers with several running subscriptions, as they were mirrored last; all of them, or this one."""
    ids = func.array_agg(StripeSubscription.stripe_id).aggregate_order_by(StripeSubscription.starts_at)
    query = (
        select(StripeSubscription.account, Customer.key, ids)
        .join(Customer, Customer.id == StripeSubscription.customer_id)
        .where(StripeSubscription.status.in_(RUNNING))
        .group_by(StripeSubscription.account, Customer.key)
        .having(func.count() > 1)
        .order_by(Customer.key, StripeSubscription.account)
    )
    if customer_id is not None:
        query = query.where(StripeSubscription.customer_id == customer_id)
    return [Doubled(account, key, tuple(found)) for account, key, found in session.execute(query)]


def running_at_stripe(api: StripeApi, customer: Customer) -> Sequence[str]:
    """The ids of the customer's subscriptions that run, as Stripe knows them now. Raises StripeFailed."""
    with asking():
        found = api.client.v1.subscriptions.list({"customer": str(customer.stripe_customer_id), "limit": 100})
        return [one.id for one in found.auto_paging_iter() if one.status in RUNNING]


def close_open_checkouts(api: StripeApi, customer: Customer) -> None:
    """Let nobody pay what another tab has still open.

    Raises:
        Conflict: one of them is being paid at this moment. StripeFailed: Stripe did not answer.
    """
    params: Any = {"customer": customer.stripe_customer_id, "status": "open", "limit": 100}
    with asking():
        sessions = list(api.client.v1.checkout.sessions.list(params).auto_paging_iter())
    for one in sessions:
        try:
            api.client.v1.checkout.sessions.expire(one.id)
        except stripe.InvalidRequestError as error:
            raise Conflict("A payment is being made at this moment: see in a minute what came of it") from error
        except stripe.StripeError as error:
            raise StripeFailed(outcome_of(error)) from error


def end_double(session: Session, api: StripeApi, stripe_id: str, *, note: str, now: datetime, actor: str) -> None:
    """End one of a customer's several subscriptions at once. It bills no usage, which the other one does, and gives
    nothing back: refunding what was paid for it is left to the operator.

    Raises:
        NotFound: no such subscription is known. Conflict: it is the customer's only one.
        StripeFailed: Stripe did not answer.
    """
    query = select(StripeSubscription).where(
        StripeSubscription.account == api.account, StripeSubscription.stripe_id == stripe_id
    )
    row = session.scalars(query).one_or_none()
    if row is None:
        raise NotFound(f"no subscription {stripe_id!r} is known", subscription=stripe_id)
    twins = [one.subscriptions for one in doubled(session, customer_id=row.customer_id) if one.account == api.account]
    if not twins or stripe_id not in twins[0]:
        raise Conflict(f"{stripe_id} is not one of several that run: it is ended on the plan page")
    with asking():
        api.client.v1.subscriptions.cancel(stripe_id, {"invoice_now": False, "prorate": False})
    detail = {"subscription": stripe_id, "kept": [one for one in twins[0] if one != stripe_id], "note": note}
    session.add(AuditEntry(at=now, actor=actor, action="stripe.end_double", customer_id=row.customer_id, detail=detail))
