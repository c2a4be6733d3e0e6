"""What was posted to people, as their mailboxes would show it."""

import re

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.models import Mail

LINK = re.compile(r"https?://[^/\s]+(/(?:verify|reset|invitations|account/email)/mt_[\w-]+)")


def mails_to(session: Session, email: str) -> list[Mail]:
    session.rollback()
    return list(session.scalars(select(Mail).where(Mail.recipient == email).order_by(Mail.id)))


def link_to(session: Session, email: str) -> str:
    """The path of the link in the last e-mail."""
    found = LINK.search(mails_to(session, email)[-1].body)
    assert found, f"no link was sent to {email}"
    return found[1]
