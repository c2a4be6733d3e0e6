"""Stripe's own pages, where customers buy and pay: checkout for a plan, the portal for payment, and the end of a
subscription. No card and no address ever comes near us.

Source: https://docs.stripe.com/payments/checkout/build-subscriptions, https://docs.stripe.com/customer-management.
"""

from typing import Any
from urllib.parse import urlencode

from sqlalchemy.orm import Session

from metering.errors import Conflict
from metering.models import Customer, StripePrice, StripeSubscription
from metering.stripe_sync.asking import asking
from metering.stripe_sync.customers import KEY
from metering.stripe_sync.gateway import StripeApi
from metering.stripe_sync.mirror import RUNNING, governing_subscription
from metering.stripe_sync.plans import METADATA
from metering.stripe_sync.prices import prices_of

CHECKOUT_ID = "{CHECKOUT_SESSION_ID}"
"""Stripe puts the id of the session in its place, as it stands: percent-encoded it would not be recognised."""


def current_subscription(session: Session, api: StripeApi, customer: Customer) -> StripeSubscription | None:
    """The one that a customer has, as it was mirrored last; None where none runs."""
    found = governing_subscription(session, customer.id, api.account)
    return found if found is not None and found.status in RUNNING else None


def is_sold(session: Session, account: str, plan: str) -> bool:
    """Whether a plan can be bought: its prices are known at Stripe."""
    return bool(prices_of(session, account, plan))


def open_checkout(session: Session, api: StripeApi, customer: Customer, plan: str, *, back: str) -> str:
    """The address of a checkout for `plan`; `back` is our page that Stripe leads to, `?checkout=` behind it tells how.
    Whether one may be sold is `single`'s to say.

    Raises:
        Conflict: the plan has no prices at Stripe. StripeFailed: Stripe did not answer.
    """
    params: Any = {
        "mode": "subscription",
        "customer": customer.stripe_customer_id,
        "client_reference_id": customer.key,
        "line_items": _items(session, api.account, plan),
        "success_url": f"{back}?checkout=done&session={CHECKOUT_ID}",
        "cancel_url": f"{back}?{urlencode({'checkout': 'cancelled'})}",
        "subscription_data": {"metadata": {METADATA[0]: plan, KEY: customer.key}},
    }
    with asking():
        made = api.client.v1.checkout.sessions.create(params)
    assert made.url is not None  # a session that was just made is open
    return made.url


def open_portal(api: StripeApi, customer: Customer, *, back: str) -> str:
    """The address of the portal, where payment methods, addresses and invoices are. Raises StripeFailed, Conflict."""
    if customer.stripe_customer_id is None:
        raise Conflict("nothing was bought yet, so there is no payment to manage", customer=customer.key)
    with asking():
        return api.client.v1.billing_portal.sessions.create(
            {"customer": customer.stripe_customer_id, "return_url": back}
        ).url


def change_plan(session: Session, api: StripeApi, subscription: StripeSubscription, plan: str) -> None:
    """Move a subscription to another plan's prices, from now on in the running period; what differs is prorated.

    Prices that both plans share stay as they are, with the usage that was counted on them.

    Raises:
        Conflict: the plan has no prices at Stripe. StripeFailed: Stripe did not answer.
    """
    wanted = [item["price"] for item in _items(session, api.account, plan)]
    with asking():
        fresh: Any = api.client.v1.subscriptions.retrieve(subscription.stripe_id)
        present = {item.price.id: item for item in fresh["items"].data}
        gone = [{"id": item.id, "deleted": True} for price, item in present.items() if price not in wanted]
        new = [item for item in _items(session, api.account, plan) if item["price"] not in present]
        params: Any = {
            "items": [*gone, *new],
            "proration_behavior": "create_prorations",
            "metadata": {METADATA[0]: plan},
            "cancel_at_period_end": False,
        }
        api.client.v1.subscriptions.update(subscription.stripe_id, params)


def cancel(api: StripeApi, subscription: StripeSubscription, *, at_once: bool) -> None:
    """End a subscription with its period, which bills all of its usage; or at once, with an invoice for what was used.

    Without `invoice_now` Stripe would throw unbilled usage away. Raises StripeFailed.
    """
    with asking():
        if at_once:
            api.client.v1.subscriptions.cancel(subscription.stripe_id, {"invoice_now": True, "prorate": True})
        else:
            api.client.v1.subscriptions.update(subscription.stripe_id, {"cancel_at_period_end": True})


def resume(api: StripeApi, subscription: StripeSubscription) -> None:
    """Take back a cancellation that has not come yet. Raises StripeFailed."""
    with asking():
        api.client.v1.subscriptions.update(subscription.stripe_id, {"cancel_at_period_end": False})


def _items(session: Session, account: str, plan: str) -> list[dict[str, Any]]:
    """What a subscription to a plan consists of: one of its base fee; metered prices take no quantity."""
    ids = prices_of(session, account, plan)
    if not ids:
        raise Conflict(f"the plan {plan!r} is not sold at Stripe: `flask metering stripe push` makes its prices")
    prices = {id: session.get_one(StripePrice, (account, id)) for id in ids}
    return [{"price": id} if price.meter else {"price": id, "quantity": 1} for id, price in prices.items()]
