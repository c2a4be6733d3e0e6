"""Who calls the API, and whose data is in reach of their key: the one place that scopes requests by customer.

Always holds: a customer that is not in reach answers as one that does not exist.
"""

from flask import current_app, g, request

from metering.errors import NotAuthenticated, NotPermitted, UnknownCustomer
from metering.ids import key_digest, key_partition
from metering.intake.values import Caller
from metering.metered import api_key
from metering.service import Metering


def current_metering() -> Metering:
    metering: Metering = current_app.extensions["metering"]
    return metering


def authenticate() -> Caller:
    """The bearer of the request's key. Raises NotAuthenticated, IntakeUnavailable."""
    metering = current_metering()
    secret = api_key(request)
    partition = key_partition(secret) if secret else None
    if secret is None or partition is None or partition >= metering.settings.partitions:
        raise NotAuthenticated("send an API key: Authorization: Bearer mk_…")
    return metering.runtime.intake.authenticate(key_digest(secret), partition, now=metering.runtime.clock())


def current_caller() -> Caller:
    """Who was let in to the operation that runs."""
    caller: Caller = g.caller
    return caller


def require_scope(scope: str) -> None:
    """Raises NotPermitted."""
    if scope not in current_caller().scopes:
        raise NotPermitted(f"this API key does not carry the scope {scope!r}", scope=scope)


def require_operator() -> None:
    """Raises NotPermitted for a key that belongs to a customer."""
    if not current_caller().is_operator:
        raise NotPermitted("this is for operators: their keys belong to no customer")


def callers_customer() -> str:
    """The key of the customer that the caller acts for. Raises NotPermitted for an operator's key, which has none."""
    caller = current_caller()
    if caller.is_operator:
        raise NotPermitted("an operator's key belongs to no customer; use a customer's key here")
    return caller.customer


def customer_in_reach(customer: str | None) -> str:
    """The customer that a request names; without a name the caller's own.

    Raises:
        UnknownCustomer: it is another's, which answers as if there were none.
        NotPermitted: an operator must say which.
    """
    if customer is None:
        return callers_customer()
    caller = current_caller()
    if not caller.is_operator and customer != caller.customer:
        raise UnknownCustomer(f"there is no customer {customer!r}", customer=customer)
    return customer
