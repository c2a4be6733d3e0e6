"""Who calls the API, and whether their key may: one decorator for every route that is not metered."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from flask import current_app, g, request

from metering.errors import NotAuthenticated, NotPermitted
from metering.ids import key_digest, key_partition
from metering.intake.values import Caller
from metering.metered import api_key
from metering.service import Metering


def current_metering() -> Metering:
    metering: Metering = current_app.extensions["metering"]
    return metering


def scoped(scope: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Serve only callers whose key carries `scope`; `g.caller` is who it is.

    Raises:
        NotAuthenticated: no key, or one that is unknown or revoked.
        NotPermitted: the key lacks the scope.
    """

    def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            g.caller = authenticate()
            if scope not in g.caller.scopes:
                raise NotPermitted(f"this API key does not carry the scope {scope!r}", scope=scope)
            return view(*args, **kwargs)

        return guarded

    return decorate


def authenticate() -> Caller:
    """The bearer of the request's key. Raises NotAuthenticated, IntakeUnavailable."""
    metering = current_metering()
    secret = api_key(request)
    partition = key_partition(secret) if secret else None
    if secret is None or partition is None or partition >= metering.settings.partitions:
        raise NotAuthenticated("send an API key: Authorization: Bearer mk_…")
    return metering.runtime.intake.authenticate(key_digest(secret), partition, now=metering.runtime.clock())


def callers_customer() -> str:
    """The key of the customer that the caller acts for. Raises NotPermitted for an operator's key, which has none."""
    caller: Caller = g.caller
    if caller.is_operator:
        raise NotPermitted("an operator's key belongs to no customer; use a customer's key here")
    return caller.customer
