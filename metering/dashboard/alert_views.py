"""What the pages about alerts and webhooks show. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from metering.catalog import Catalog
from metering.dashboard import humanize, quantities
from metering.dashboard.access import Access
from metering.models import Alert, WebhookDelivery, WebhookEndpoint, WebhookTry


@dataclass(frozen=True, slots=True)
class FiredView:
    """An alert that fired; `tone` is that of its badge."""

    meter: str
    percent: int
    tone: str
    used: str
    limit: str
    at: datetime
    at_text: str


def fired(rows: Sequence[tuple[Alert, str]], catalog: Catalog, access: Access, now: datetime) -> list[FiredView]:
    """`rows` with the key of their meter; those of meters that are sold no more are left out."""
    return [
        FiredView(
            meter=meter.name,
            percent=alert.percent,
            tone="danger" if alert.percent >= 100 else "warn",
            used=quantities.in_words(meter, meter.to_quantity(alert.units)),
            limit=quantities.in_words(meter, meter.to_quantity(alert.limit_units)),
            at=alert.crossed_at,
            at_text=humanize.relative(alert.crossed_at, now),
        )
        for alert, key in rows
        if (meter := catalog.meters.get(key)) is not None
    ]


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
