"""Who calls the API, and whose data is in reach of their key: the one place that scopes requests by customer.

Always holds: a customer that is not in reach answers as one that does not exist.
"""

from time import monotonic

from flask import current_app, g, request
from sqlalchemy.exc import SQLAlchemyError

from metering.accounts.keys import find_caller
from metering.errors import IntakeUnavailable, NotAuthenticated, NotPermitted, UnknownCustomer
from metering.ids import key_digest, key_partition
from metering.intake.refusals import missing_scope
from metering.intake.values import Caller
from metering.metered import api_key
from metering.service import Metering

REMEMBERED_SECONDS = 0.5
MOST_REMEMBERED = 1_000


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


def authenticate_for_events() -> Caller:
    """The bearer of the request's key, remembered for half a second, so that a busy sender is not looked up each time.

    A revoked key is refused within a second all the same: Redis knows of it at once. While Redis is away and
    METERING_ON_OUTAGE is allow, PostgreSQL says who it is.
    """
    metering = current_metering()
    secret = api_key(request) or ""
    remembered: dict[str, tuple[Caller, float]] = current_app.extensions.setdefault("metering_callers", {})
    known = remembered.get(secret)
    if known and known[1] > monotonic():
        return known[0]
    try:
        caller = authenticate()
    except IntakeUnavailable:
        if metering.settings.on_outage == "deny":
            raise
        return _caller_in_postgresql(metering, secret)
    if len(remembered) >= MOST_REMEMBERED:
        remembered.clear()
    remembered[secret] = (caller, monotonic() + REMEMBERED_SECONDS)
    return caller


def _caller_in_postgresql(metering: Metering, secret: str) -> Caller:
    try:
        with metering.runtime.transaction() as session:
            found = find_caller(session, key_digest(secret), now=metering.clock())
    except SQLAlchemyError as error:
        raise IntakeUnavailable("neither Redis nor PostgreSQL answers") from error
    if found is None:
        raise NotAuthenticated("this API key is unknown or was revoked")
    return found


def current_caller() -> Caller:
    """Who was let in to the operation that runs."""
    caller: Caller = g.caller
    return caller


def require_scope(scope: str) -> None:
    """Raises NotPermitted."""
    if scope not in current_caller().scopes:
        raise missing_scope(scope)


def require_operator() -> None:
    """Raises NotPermitted for a key that belongs to a customer."""
    if not current_caller().is_operator:
        raise NotPermitted("this is for operators: their keys belong to no customer")


def callers_customer() -> str:
    """The key of the customer that the caller acts for. Raises NotPermitted for an operator's key, which has none."""
    caller = current_caller()
    if caller.is_operator:
        raise NotPermitted("an operators' key belongs to no customer: say which with customer")
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
