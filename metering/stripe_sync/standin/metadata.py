"""Metadata merges key by key. Source: Stripe's page "Metadata"."""

from __future__ import annotations

from metering.stripe_sync.standin.rules import Strings

NEW_METADATA = Strings()
METADATA = Strings(unset=True)


def merged(kept: dict[str, str], sent: dict[str, str] | None) -> dict[str, str]:
    """What is kept after `sent`: an empty value takes a key out, an empty hash takes all; None changes nothing."""
    if sent is None:
        return kept
    return {key: value for key, value in {**kept, **sent}.items() if value != ""} if sent else {}
