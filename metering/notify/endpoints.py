"""A customer's endpoints for webhooks: made, changed, their secrets rotated. Each caller commits."""

import base64
import secrets
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from metering.errors import Conflict, InvalidUsage, NotFound
from metering.models import Customer, WebhookDelivery, WebhookEndpoint
from metering.notify.destination import destination

EVENTS = ("alert.crossed", "limit.reached", "subscription.changed", "invoice.issued", "invoice.paid")
"""What an endpoint may ask for; `ping` is sent when somebody asks for it."""

MOST = 10
OVERLAP = timedelta(hours=24)
"""How long a secret that was replaced still signs, beside the new one."""


def new_secret() -> str:
    """As Standard Webhooks has it: whsec_ and 24 random bytes as base64."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()


def create_endpoint(
    session: Session, customer: Customer, *, url: str, events: Collection[str], now: datetime, loopback: bool = False
) -> WebhookEndpoint:
    """Raises BadDestination, InvalidUsage, Conflict. The caller holds the customer's row."""
    destination(url, loopback=loopback)
    count = session.scalar(select(func.count(WebhookEndpoint.id)).where(WebhookEndpoint.customer_id == customer.id))
    if (count or 0) >= MOST:
        raise Conflict(f"There are {MOST} endpoints already; remove one first.")
    endpoint = WebhookEndpoint(
        customer_id=customer.id, url=url, events=checked(events), secret=new_secret(), enabled=True, created_at=now
    )
    session.add(endpoint)
    session.flush()
    return endpoint


def change_endpoint(endpoint: WebhookEndpoint, *, url: str, events: Collection[str], loopback: bool = False) -> None:
    """Raises BadDestination, InvalidUsage. A new address has not failed yet."""
    wanted = checked(events)
    if url != endpoint.url:
        destination(url, loopback=loopback)
        endpoint.url, endpoint.failing_since = url, None
    endpoint.events = wanted


def checked(events: Collection[str]) -> list[str]:
    """Raises InvalidUsage for a type that there is not, and where there is none."""
    if not events or not set(events) <= set(EVENTS):
        raise InvalidUsage(f"Choose at least one of {', '.join(EVENTS)}.")
    return [event for event in EVENTS if event in events]


def find_endpoint(session: Session, customer_id: int, endpoint_id: int, *, lock: bool = False) -> WebhookEndpoint:
    """Raises NotFound, also for that of another customer."""
    query = select(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id, WebhookEndpoint.customer_id == customer_id)
    found = session.scalars(query.with_for_update() if lock else query).one_or_none()
    if found is None:
        raise NotFound("there is no such endpoint")
    return found


def endpoints_of(session: Session, customer_id: int) -> Sequence[WebhookEndpoint]:
    query = select(WebhookEndpoint).where(WebhookEndpoint.customer_id == customer_id).order_by(WebhookEndpoint.id)
    return session.scalars(query).all()


def rotate(endpoint: WebhookEndpoint, *, now: datetime) -> str:
    """Give an endpoint a new secret; what it had signs as well for OVERLAP."""
    endpoint.old_secret, endpoint.old_secret_until = endpoint.secret, now + OVERLAP
    endpoint.secret = new_secret()
    return endpoint.secret


def switch_on(endpoint: WebhookEndpoint) -> None:
    endpoint.enabled, endpoint.failing_since, endpoint.off_reason = True, None, None


def switch_off(session: Session, endpoint: WebhookEndpoint, reason: str | None = None) -> None:
    """Nothing is sent there any more, not even what waits; it stays in the log and can be sent again."""
    endpoint.enabled, endpoint.off_reason = False, reason
    session.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.endpoint_id == endpoint.id, WebhookDelivery.next_try_at.is_not(None))
        .values(next_try_at=None)
    )


def secrets_of(endpoint: WebhookEndpoint, now: datetime) -> list[str]:
    """Those that sign now, the newest first."""
    if endpoint.old_secret is not None and endpoint.old_secret_until is not None and now < endpoint.old_secret_until:
        return [endpoint.secret, endpoint.old_secret]
    return [endpoint.secret]
