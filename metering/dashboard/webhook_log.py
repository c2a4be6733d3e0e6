"""The log of what was delivered to an endpoint, newest first, a page at a time.

Always holds: pages are cut by the id of a delivery, never by counting rows: each costs what the first one does, and
none is shown twice because others came in meanwhile.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.dashboard.webhook_views import DeliveryView, delivery_view
from metering.models import WebhookDelivery, WebhookEndpoint, WebhookTry

SHOWN = 25


@dataclass(frozen=True, slots=True)
class LogPage:
    """`newer_than` and `older_than` are the deliveries that the pages beside this one begin behind; None at an end."""

    deliveries: tuple[DeliveryView, ...]
    newer_than: int | None
    older_than: int | None


def read_log(
    session: Session, endpoint: WebhookEndpoint, *, now: datetime, before: int | None = None, after: int | None = None
) -> LogPage:
    """The page of those older than the delivery `before`, or of those just newer than `after`; else the newest."""
    rows, more = _rows(session, endpoint, before, after)
    tries = _tries(session, rows)
    newer, older = (after is not None and more), (after is not None or more)
    return LogPage(
        deliveries=tuple(delivery_view(row, tries[row.id], now) for row in rows),
        newer_than=rows[0].id if rows and (newer or before is not None) else None,
        older_than=rows[-1].id if rows and older else None,
    )


def _rows(
    session: Session, endpoint: WebhookEndpoint, before: int | None, after: int | None
) -> tuple[list[WebhookDelivery], bool]:
    """Newest first, and whether there are more in the direction that was gone."""
    query = select(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint.id).limit(SHOWN + 1)
    if after is not None:
        found = session.scalars(query.where(WebhookDelivery.id > after).order_by(WebhookDelivery.id)).all()
        return list(reversed(found[:SHOWN])), len(found) > SHOWN
    if before is not None:
        query = query.where(WebhookDelivery.id < before)
    found = session.scalars(query.order_by(WebhookDelivery.id.desc())).all()
    return list(found[:SHOWN]), len(found) > SHOWN


def _tries(session: Session, rows: Sequence[WebhookDelivery]) -> defaultdict[int, list[WebhookTry]]:
    """Of each delivery, newest first."""
    found: defaultdict[int, list[WebhookTry]] = defaultdict(list)
    theirs = WebhookTry.delivery_id.in_([row.id for row in rows])
    for one in session.scalars(select(WebhookTry).where(theirs).order_by(WebhookTry.id.desc())):
        found[one.delivery_id].append(one)
    return found
