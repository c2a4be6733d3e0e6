"""Calls through Stripe's library, with its errors turned into ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import stripe

from metering.stripe_sync.gateway import StripeFailed, outcome_of


@contextmanager
def asking() -> Iterator[None]:
    """Raises StripeFailed for whatever Stripe's library raises in the block."""
    try:
        yield
    except stripe.StripeError as error:
        raise StripeFailed(outcome_of(error)) from error


def moment(seconds: int) -> datetime:
    """Stripe's time, Unix seconds."""
    return datetime.fromtimestamp(seconds, UTC)


def moment_or_none(seconds: int | None) -> datetime | None:
    return None if seconds is None else moment(seconds)
