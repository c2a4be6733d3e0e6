"""Alerts that were given: those that hold now, the history, and who was told of each."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from sqlalchemy import Case, Select, case, func, literal, select, union_all
from sqlalchemy.orm import InstrumentedAttribute, Session

from metering.errors import NotFound
from metering.models import Alert, Mail, MailedAlert, MeterRow, Period, WebhookDelivery

Outcome = Literal["delivered", "waiting", "failed"]
Moment = InstrumentedAttribute[datetime | None]


class Fired(NamedTuple):
    """An alert with its meter; None for one about money."""

    alert: Alert
    meter: MeterRow | None


@dataclass(frozen=True, slots=True)
class Told:
    """How many messages about an alert went over a channel, and what became of them."""

    channel: Literal["mail", "webhook"]
    outcome: Outcome
    messages: int


def current_alerts(session: Session, customer_id: int, *, now: datetime) -> Sequence[Fired]:
    """The alerts of a customer's current period, the newest first."""
    return _rows(session, _current(customer_id, now).order_by(Alert.crossed_at.desc(), Alert.id.desc()))


def list_alerts(
    session: Session, customer_id: int, *, now: datetime, before: int | None, limit: int
) -> Sequence[Fired]:
    """The alerts of a customer's current period, newest first; those before the id `before`."""
    query = _current(customer_id, now).order_by(Alert.id.desc()).limit(limit)
    return _rows(session, query if before is None else query.where(Alert.id < before))


def history(session: Session, customer_id: int, *, limit: int = 50) -> Sequence[Fired]:
    """The newest alerts of a customer, whatever the period."""
    return _rows(session, _with_meter(customer_id).order_by(Alert.id.desc()).limit(limit))


def dismiss(session: Session, customer_id: int, alert_id: int, *, now: datetime) -> Alert:
    """Take an alert away from the overview; it stays in the history. Raises NotFound, also for another customer's."""
    alert = session.get(Alert, alert_id, with_for_update=True)
    if alert is None or alert.customer_id != customer_id:
        raise NotFound("there is no such alert")
    alert.dismissed_at = alert.dismissed_at or now
    return alert


def told(session: Session, alert_ids: Collection[int]) -> dict[int, list[Told]]:
    """What was sent of these alerts, by their ids; deliveries that the log has forgotten are not among it."""
    if not alert_ids:
        return {}
    mails = (
        select(
            MailedAlert.alert_id,
            literal("mail").label("channel"),
            _outcome(Mail.sent_at, Mail.next_try_at).label("outcome"),
        )
        .join(Mail, Mail.id == MailedAlert.mail_id)
        .where(MailedAlert.alert_id.in_(alert_ids))
    )
    webhooks = select(
        WebhookDelivery.alert_id,
        literal("webhook").label("channel"),
        _outcome(WebhookDelivery.delivered_at, WebhookDelivery.next_try_at).label("outcome"),
    ).where(WebhookDelivery.alert_id.in_(alert_ids))
    each = union_all(mails, webhooks).subquery()
    parts = (each.c.alert_id, each.c.channel, each.c.outcome)
    found: dict[int, list[Told]] = {}
    for alert_id, *rest in session.execute(select(*parts, func.count()).group_by(*parts).order_by(*parts)):
        found.setdefault(alert_id, []).append(Told(*rest))
    return found


def _outcome(done_at: Moment, next_try_at: Moment) -> Case[str]:
    return case((done_at.is_not(None), "delivered"), (next_try_at.is_not(None), "waiting"), else_="failed")


def _with_meter(customer_id: int) -> Select[Alert, MeterRow]:
    query = select(Alert, MeterRow).join(MeterRow, MeterRow.id == Alert.meter_id, isouter=True)
    return query.where(Alert.customer_id == customer_id)


def _current(customer_id: int, now: datetime) -> Select[Alert, MeterRow]:
    query = _with_meter(customer_id).join(Period, Period.id == Alert.period_id)
    return query.where(Period.starts_at <= now, Period.ends_at > now)


def _rows(session: Session, query: Select[Alert, MeterRow]) -> Sequence[Fired]:
    return [Fired(*row) for row in session.execute(query)]
