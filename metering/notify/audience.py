"""Who of a customer hears of things by e-mail."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.models import Customer, MailedAlert, Membership, User
from metering.notify import mail

MANAGERS = ("owner", "admin")


def write_to_managers(
    session: Session, customer: Customer, *, subject: str, body: str, now: datetime, alert_ids: Collection[int] = ()
) -> int:
    """Post an e-mail to each owner and admin (of alerts: to who wants them); how many."""
    query = (
        select(User.email)
        .join(Membership, Membership.user_id == User.id)
        .where(Membership.customer_id == customer.id, Membership.role.in_(MANAGERS))
        .order_by(User.id)
    )
    addresses = session.scalars(query.where(Membership.alert_mails) if alert_ids else query).all()
    for address in addresses:
        posted = mail.post(session, to=address, subject=subject, body=body, now=now, customer_id=customer.id)
        session.add_all(MailedAlert(alert_id=alert_id, mail_id=posted.id) for alert_id in alert_ids)
    return len(addresses)
