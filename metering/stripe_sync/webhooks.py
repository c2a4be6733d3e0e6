"""What comes in as a webhook, checked before anything is believed: the signature over the bytes, its age, the shape.

Source: https://docs.stripe.com/webhooks#verify-events; thin events: https://docs.stripe.com/event-destinations.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import stripe

from metering.errors import MeteringError
from metering.settings import Settings
from metering.stripe_sync.asking import moment

MAX_AGE_SECONDS = 300
"""An older signature may be one that somebody recorded and plays again."""

OBJECTS = {False: "event", True: "v2.core.event"}


class BadWebhook(MeteringError):
    """It was not signed with the secret of this destination, is too old, or is no event."""

    code = "bad-webhook"


@dataclass(frozen=True, slots=True)
class Incoming:
    """An event as it was announced. `object_id` names what it is about; nothing else of its content is used.

    `account`: the connected account that it belongs to; None for our own.
    """

    id: str
    type: str
    thin: bool
    livemode: bool
    happened_at: datetime
    object_id: str | None
    account: str | None


def receive(body: bytes, signature: str | None, secret: str, *, thin: bool) -> Incoming:
    """Raises BadWebhook."""
    try:
        stripe.WebhookSignature.verify_header(body, signature, secret, MAX_AGE_SECONDS)
        event = json.loads(body)
    except stripe.SignatureVerificationError as error:
        raise BadWebhook(f"this is not signed as it should be: {error.user_message or error}") from None
    except ValueError:  # no UTF-8, or no JSON
        raise BadWebhook("the body is no JSON") from None
    try:
        return _read(event, thin)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise BadWebhook(f"the body is no {'thin ' if thin else ''}event of Stripe's") from None


def mode_of(settings: Settings) -> str:
    """`standin`, `test` or `live`: what this installation's key is for."""
    if settings.stripe == "standin":
        return "standin"
    key = settings.stripe_api_key.get_secret_value() if settings.stripe_api_key else ""
    return "live" if "_live_" in key else "test"


def why_not_ours(event: Incoming, mode: str) -> str | None:
    """Why an event that was signed rightly must not be acted on, if so: test and live never mix."""
    if event.livemode != (mode == "live"):
        return f"a {'live' if event.livemode else 'test'} event, and this installation is in {mode} mode"
    if event.account is not None:
        return f"of the connected account {event.account}"
    return None


def _read(event: Any, thin: bool) -> Incoming:
    if event["object"] != OBJECTS[thin]:
        raise ValueError(event["object"])
    subject = (event.get("related_object") or {}) if thin else event["data"]["object"]
    object_id = subject.get("id")
    return Incoming(
        id=_text(event["id"]),
        type=_text(event["type"]),
        thin=thin,
        livemode=bool(event["livemode"]),
        happened_at=_when(event["created"]),
        object_id=None if object_id is None else _text(object_id),
        account=event.get("context") if thin else event.get("account"),
    )


def _text(value: object) -> str:
    """Stripe's ids and types have at most 255 characters."""
    if not isinstance(value, str) or not 0 < len(value) <= 255 or not value.isprintable():
        raise ValueError(value)
    return value


def _when(created: int | str) -> datetime:
    """Unix seconds in snapshot events, RFC 3339 in thin ones."""
    if isinstance(created, str):
        when = datetime.fromisoformat(created)
        if when.tzinfo is None:
            raise ValueError(created)
        return when.astimezone(UTC)
    return moment(created)
