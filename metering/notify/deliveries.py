"""Webhooks out by Standard Webhooks (https://www.standardwebhooks.com): written in the transaction of what they tell
of, delivered at least once afterwards, tried again for a day.

Always holds: no transaction is open while an endpoint is waited for. A delivery is claimed by moving its next try
ahead, so that a killed sender's comes again by itself; its id and its body are the same in each try.
"""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import structlog
from sqlalchemy import delete, select
from sqlalchemy.orm import Session
from standardwebhooks import Webhook

from metering.clock import zulu
from metering.failpoints import visit
from metering.ids import new_id
from metering.models import Customer, WebhookDelivery, WebhookEndpoint, WebhookTry
from metering.notify import audience, wire
from metering.notify.endpoints import secrets_of, switch_off
from metering.runtime import Runtime

WAITS = tuple(timedelta(seconds=seconds) for seconds in (5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 10 * 3600))
"""Between tries: the schedule that Standard Webhooks recommends. Eight tries in a little more than a day."""

CLAIM = timedelta(minutes=2)
PATIENCE = timedelta(days=7)
KEPT_FOR = timedelta(days=30)
BATCH, THREADS = 16, 8
JOB_SECONDS = 20.0

log = structlog.get_logger("metering.notify")


@dataclass(frozen=True, slots=True)
class Message:
    """What endpoints of a customer are told, if they asked for this type of event; `alert_id`, if it is of an alert."""

    customer_id: int
    event: str
    data: Mapping[str, Any]
    alert_id: int | None = None


def tell(session: Session, messages: Sequence[Message], *, now: datetime) -> int:
    """Have messages delivered once the caller's transaction is committed; how many deliveries that makes."""
    if not messages:
        return 0
    query = select(WebhookEndpoint).where(
        WebhookEndpoint.customer_id.in_({message.customer_id for message in messages}), WebhookEndpoint.enabled
    )
    endpoints = session.scalars(query).all()
    made = [
        _delivery(endpoint, message.event, message.data, now, alert_id=message.alert_id)
        for message in messages
        for endpoint in endpoints
        if endpoint.customer_id == message.customer_id and message.event in endpoint.events
    ]
    session.add_all(made)
    session.flush()
    return len(made)


def ping(session: Session, endpoint: WebhookEndpoint, *, now: datetime) -> WebhookDelivery:
    """Have a test message delivered, whatever the endpoint asked for."""
    delivery = _delivery(endpoint, "ping", {"text": "It works."}, now)
    session.add(delivery)
    session.flush()
    return delivery


def replay(delivery: WebhookDelivery, *, now: datetime) -> None:
    """Have a delivery made again, under the same id, with all of its tries before it."""
    delivery.tries, delivery.next_try_at, delivery.delivered_at = 0, now, None


def _delivery(
    endpoint: WebhookEndpoint, event: str, data: Mapping[str, Any], now: datetime, *, alert_id: int | None = None
) -> WebhookDelivery:
    at = zulu(now)
    return WebhookDelivery(
        endpoint_id=endpoint.id,
        alert_id=alert_id,
        message_id=f"msg_{new_id()}",
        event=event,
        body=json.dumps({"type": event, "timestamp": at, "data": dict(data)}, separators=(",", ":")),
        created_at=now,
        next_try_at=now,
    )


# -- sending -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Claimed:
    id: int
    message_id: str
    body: str
    url: str
    secrets: tuple[str, ...]
    at: datetime


def send_waiting(runtime: Runtime) -> int:
    """Deliver what is due, for a while; how many were delivered. A killed sender may send one twice, never none."""
    delivered, ends = 0, monotonic() + JOB_SECONDS
    with ThreadPoolExecutor(THREADS) as pool:
        while claimed := _claim(runtime):
            visit("webhooks.claimed")
            for one, outcome in zip(claimed, pool.map(lambda one: _post(runtime, one), claimed), strict=True):
                visit("webhooks.sent")
                delivered += _settle(runtime, one, outcome)
            if len(claimed) < BATCH or monotonic() >= ends:
                break
    return delivered


def forget_old(session: Session, *, now: datetime) -> int:
    """Leave out of the log what nothing will be done about any more; how much."""
    old = WebhookDelivery.created_at < now - KEPT_FOR
    gone = delete(WebhookDelivery).where(old, WebhookDelivery.next_try_at.is_(None)).returning(WebhookDelivery.id)
    return len(session.scalars(gone).all())


def _claim(runtime: Runtime) -> list[_Claimed]:
    now = runtime.clock()
    with runtime.transaction() as session:
        query = (
            select(WebhookDelivery, WebhookEndpoint)
            .join(WebhookEndpoint, WebhookEndpoint.id == WebhookDelivery.endpoint_id)
            .where(WebhookDelivery.next_try_at <= now, WebhookEndpoint.enabled)
            .order_by(WebhookDelivery.next_try_at, WebhookDelivery.id)
            .limit(BATCH)
            .with_for_update(skip_locked=True, of=WebhookDelivery)
        )
        found = []
        for delivery, endpoint in session.execute(query):
            delivery.next_try_at = now + CLAIM
            signing = tuple(secrets_of(endpoint, now))
            found.append(_Claimed(delivery.id, delivery.message_id, delivery.body, endpoint.url, signing, now))
        return found


def _post(runtime: Runtime, one: _Claimed) -> wire.Outcome:
    at = one.at.astimezone(UTC)
    signatures = (Webhook(secret).sign(one.message_id, at, one.body) for secret in one.secrets)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "metering-webhooks/1",
        "webhook-id": one.message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
    return wire.post(one.url, one.body.encode(), headers, loopback=runtime.settings.webhooks_to_loopback)


def _settle(runtime: Runtime, one: _Claimed, outcome: wire.Outcome) -> bool:
    """Write down a try and what follows from it; whether it was delivered."""
    now = runtime.clock()
    with runtime.transaction() as session:
        of_delivery = select(WebhookDelivery.endpoint_id).where(WebhookDelivery.id == one.id).scalar_subquery()
        # The endpoint first, as whoever changes or removes it does: in another order they wait for each other.
        endpoint = session.scalars(
            select(WebhookEndpoint).where(WebhookEndpoint.id == of_delivery).with_for_update()
        ).one_or_none()
        delivery = session.get(WebhookDelivery, one.id, with_for_update=True)
        if endpoint is None or delivery is None:
            return outcome.succeeded  # the endpoint was removed meanwhile
        session.add(
            WebhookTry(
                delivery_id=one.id, at=now, status=outcome.status, response=outcome.response, fault=outcome.fault
            )
        )
        delivery.tries += 1
        is_its_address = endpoint.url == one.url  # what an earlier one answered says nothing of this one
        if outcome.succeeded:
            delivery.next_try_at, delivery.delivered_at = None, now
            if is_its_address:
                endpoint.failing_since = None
            return True
        log.warning("webhook_not_delivered", delivery=one.id, tries=delivery.tries, status=outcome.status)
        later = delivery.tries <= len(WAITS) and endpoint.enabled
        delivery.next_try_at = now + WAITS[delivery.tries - 1] if later else None
        if is_its_address:
            endpoint.failing_since = endpoint.failing_since or now
            _give_up_on(session, endpoint, outcome, now)
        return False


def _give_up_on(session: Session, endpoint: WebhookEndpoint, outcome: wire.Outcome, now: datetime) -> None:
    """Switch an endpoint off that is gone, or has taken nothing for a week; its customer hears of it once."""
    if not endpoint.enabled or endpoint.failing_since is None:
        return
    if outcome.is_gone:
        reason = "It answered 410 Gone."
    elif now - endpoint.failing_since >= PATIENCE:
        reason = "It has taken nothing for a week."
    else:
        return
    session.flush()
    switch_off(session, endpoint, reason)
    log.warning("webhook_endpoint_switched_off", endpoint=endpoint.id, reason=reason)
    customer = session.get_one(Customer, endpoint.customer_id)
    audience.write_to_managers(
        session,
        customer,
        subject=f"Webhooks to {endpoint.url[:80]} are switched off",
        body=f"The endpoint {endpoint.url} of {customer.name} is switched off. {reason}\n\n"
        "Nothing is sent there until an owner or admin switches it on again, on the page Webhooks.\n",
        now=now,
    )
