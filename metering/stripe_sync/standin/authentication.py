"""Secret test keys, as Bearer token or as the user name of Basic authentication. Every test key opens the one account.

Source: Stripe's page "Authentication".
"""

from __future__ import annotations

import re

from werkzeug.datastructures import Authorization

from metering.stripe_sync.standin.errors import ApiError

_TEST_KEY = re.compile(r"sk_test_\w+")


def authenticate(authorization: Authorization | None) -> None:
    """Raises a 401 in Stripe's shape when the key is missing or is not a secret test key."""
    key = _key(authorization)
    if not key:
        raise ApiError(
            "You did not provide an API key. You need to provide your API key in the Authorization header, using "
            "Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See "
            "https://stripe.com/docs/api#authentication for details, or we can help at https://support.stripe.com/.",
            status=401,
        )
    if not _TEST_KEY.fullmatch(key):
        raise ApiError(f"Invalid API Key provided: {_masked(key)}", status=401)


def _key(authorization: Authorization | None) -> str | None:
    if authorization is None:
        return None
    return authorization.token if authorization.type == "bearer" else authorization.username


def _masked(key: str) -> str:
    return key[:8] + "*" * max(0, len(key) - 12) + key[-4:] if len(key) > 12 else "*" * len(key)
