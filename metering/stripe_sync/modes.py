"""Test mode and live mode never mix: before anything is sent, Stripe is asked whether the ids we hold are its own.

Always holds: an id that belongs to the other mode, or to another account, is refused with its name; Stripe away is no
refusal. Source: Stripe's pages "Authentication" and "Sandboxes": objects of one mode don't exist for keys of the other,
and each carries `livemode`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import stripe
import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.errors import ConfigurationError
from metering.models import Customer
from metering.stripe_sync.gateway import StripeFailed, StripeGateway, outcome_of

CUSTOMERS_ASKED = 20
"""So many of the latest customers are asked for; ids of the wrong mode come by the hundred, not one by one."""

log = structlog.get_logger("metering.stripe")


def refuse_foreign_ids(session: Session, gateway: StripeGateway, ids: Mapping[str, str]) -> None:
    """Ask for meters, prices and customers by what names them here, such as a variable of the environment.

    Raises:
        ConfigurationError: one of `ids`, or a customer, is not of the account and mode of the key.
        StripeFailed: Stripe did not answer.
    """
    live = gateway.account.startswith("live:")
    for name, id in sorted(ids.items()):
        found = _fetch(gateway, id)
        if found is None or found.livemode != live:
            raise ConfigurationError(f"{name}: {_foreign(id, gateway.account)}")
    _refuse_foreign_customers(session, gateway, live)


def _refuse_foreign_customers(session: Session, gateway: StripeGateway, live: bool) -> None:
    """One that Stripe does not know, among others that it does, is a mistake about that one, and stops nobody else."""
    linked = session.execute(
        select(Customer.key, Customer.stripe_customer_id)
        .where(Customer.stripe_customer_id.is_not(None))
        .order_by(Customer.id.desc())
        .limit(CUSTOMERS_ASKED)
    )
    customers = [(key, id) for key, id in linked if id]
    found = {key: _fetch(gateway, id) for key, id in customers}
    unknown = [(key, id) for key, id in customers if found[key] is None]
    elsewhere = [
        (key, id)
        for key, id in customers
        if found[key] and not getattr(found[key], "deleted", False) and found[key].livemode != live
    ]
    if elsewhere or (unknown and len(unknown) == len(customers)):
        key, id = (elsewhere or unknown)[0]
        raise ConfigurationError(f"customer {key}: {_foreign(id, gateway.account)}")
    for key, id in unknown:
        log.warning("stripe_customer_unknown", customer=key, stripe_customer=id)


def _foreign(id: str, account: str) -> str:
    mode, _, name = account.partition(":")
    return f"{id} is not known in {mode} mode of {name}: ids of the other mode or of another account cannot be used"


def _fetch(gateway: StripeGateway, id: str) -> Any:
    """The object, by the prefix of its id; None where Stripe does not know it."""
    v1 = gateway.client.v1
    with _asking():
        try:
            if id.startswith("mtr_"):
                return v1.billing.meters.retrieve(id)
            if id.startswith("price_"):
                return v1.prices.retrieve(id)
            return v1.customers.retrieve(id)
        except stripe.InvalidRequestError as error:
            if error.code == "resource_missing" or error.http_status == 404:
                return None
            raise


@contextmanager
def _asking() -> Iterator[None]:
    try:
        yield
    except stripe.StripeError as error:
        raise StripeFailed(outcome_of(error)) from error
