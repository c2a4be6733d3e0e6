"""What the pages about webhooks show. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from metering import humanize
from metering.models import WebhookDelivery, WebhookEndpoint, WebhookTry


@dataclass(frozen=True, slots=True)
class EndpointView:
    id: int
    url: str
    events: tuple[str, ...]
    enabled: bool
    state: str
    tone: str
    off_reason: str | None
    old_secret_until: datetime | None


def endpoint_view(endpoint: WebhookEndpoint, now: datetime) -> EndpointView:
    state, tone = ("Switched off", "neutral")
    if endpoint.enabled:
        state, tone = ("Failing", "warn") if endpoint.failing_since else ("On", "ok")
    elif endpoint.off_reason:
        tone = "danger"
    until = endpoint.old_secret_until
    return EndpointView(
        id=endpoint.id,
        url=endpoint.url,
        events=tuple(endpoint.events),
        enabled=endpoint.enabled,
        state=state,
        tone=tone,
        off_reason=endpoint.off_reason,
        old_secret_until=until if until is not None and now < until else None,
    )


@dataclass(frozen=True, slots=True)
class TryView:
    at: datetime
    said: str
    response: str | None


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """`state` in words: delivered, waiting for its next try, or given up."""

    id: int
    message_id: str
    event: str
    body: str
    at: datetime
    at_text: str
    state: str
    tone: str
    next_try_at: datetime | None
    tries: tuple[TryView, ...]


def delivery_view(delivery: WebhookDelivery, tries: Sequence[WebhookTry], now: datetime) -> DeliveryView:
    if delivery.delivered_at is not None:
        state, tone = "Delivered", "ok"
    elif delivery.next_try_at is None:
        state, tone = "Not delivered", "danger"
    else:
        state, tone = ("Waiting", "neutral") if not delivery.tries else ("Tried again later", "warn")
    return DeliveryView(
        id=delivery.id,
        message_id=delivery.message_id,
        event=delivery.event,
        body=delivery.body,
        at=delivery.created_at,
        at_text=humanize.relative(delivery.created_at, now),
        state=state,
        tone=tone,
        next_try_at=delivery.next_try_at if delivery.tries else None,
        tries=tuple(TryView(one.at, one.fault or f"Status {one.status}", one.response or None) for one in tries),
    )
