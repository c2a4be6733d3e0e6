"""E-mail: posted in the transaction of what it tells of, delivered afterwards, tried again for a day.

Without an SMTP server of one's own (METERING_SMTP_HOST) development prints what it would send; production keeps it
until it expires.
"""

import smtplib
import ssl
import sys
from contextlib import suppress
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.utils import make_msgid

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.failpoints import visit
from metering.ids import without_tokens
from metering.models import Mail
from metering.runtime import Runtime
from metering.settings import Settings

KEPT_FOR = timedelta(days=1)
FIRST_WAIT = timedelta(seconds=30)
LONGEST_WAIT = timedelta(hours=2)
SMTP_SECONDS = 10.0
CLAIM = timedelta(minutes=5)
"""Longer than any one e-mail takes to be sent: after it, the sender was killed."""

log = structlog.get_logger("metering.notify")


def post(session: Session, *, to: str, subject: str, body: str, now: datetime, customer_id: int | None = None) -> Mail:
    """Have an e-mail sent once the caller's transaction is committed. `body` is plain text."""
    mail = Mail(
        customer_id=customer_id,
        recipient=to,
        subject=" ".join(subject.split()),  # one line: what follows a line break would be a header of its own
        body=body,
        created_at=now,
        expires_at=now + KEPT_FOR,
        next_try_at=now,
    )
    session.add(mail)
    session.flush()
    return mail


def send_waiting(runtime: Runtime) -> int:
    """Send what is due; how many went out. A killed sender may send one twice, never none.

    No transaction is open while the server is waited for: an e-mail is claimed by moving its next try ahead. A server
    that does not answer is left alone until the next round.
    """
    sent = 0
    while (mail := _claim(runtime)) is not None:
        visit("mail.claimed")
        fault = _fault_of(runtime.settings, mail)
        visit("mail.sent")
        _settle(runtime, mail.id, fault)
        sent += fault is None
        if isinstance(fault, OSError) and not isinstance(fault, smtplib.SMTPException):
            break
    return sent


def _claim(runtime: Runtime) -> Mail | None:
    now = runtime.clock()
    with runtime.transaction() as session:
        query = select(Mail).where(Mail.next_try_at <= now).order_by(Mail.next_try_at, Mail.id).limit(1)
        mail = session.scalars(query.with_for_update(skip_locked=True)).one_or_none()
        if mail is not None:
            mail.next_try_at = now + CLAIM
            mail.tries += 1
        return mail


def _fault_of(settings: Settings, mail: Mail) -> Exception | None:
    try:
        deliver(settings, mail)
    except (OSError, smtplib.SMTPException, ValueError) as error:  # ValueError: what no header can hold
        return error
    return None


def _settle(runtime: Runtime, mail_id: int, fault: Exception | None) -> None:
    now = runtime.clock()
    with runtime.transaction() as session:
        mail = session.get(Mail, mail_id, with_for_update=True)
        if mail is None:
            return
        if fault is None:
            mail.sent_at, mail.next_try_at, mail.fault = now, None, None
        else:
            mail.fault = f"{type(fault).__name__}: {fault}"
            wait = min(FIRST_WAIT * 2 ** (mail.tries - 1), LONGEST_WAIT)
            mail.next_try_at = now + wait if now + wait < mail.expires_at else None
            log.warning("mail_not_sent", mail=mail.id, tries=mail.tries, given_up=mail.next_try_at is None)
        if mail.next_try_at is None:
            mail.body = without_tokens(mail.body)  # what is kept lets nobody in


def deliver(settings: Settings, mail: Mail) -> None:
    """Hand one e-mail to the SMTP server. Raises OSError, smtplib.SMTPException."""
    if settings.smtp_host is None:
        if not settings.is_development:
            raise OSError("no SMTP server is set (METERING_SMTP_HOST)")
        # Not a line of the log: logs hide the links that the developer is to follow.
        sys.stderr.write(f"\nTo: {mail.recipient}\nSubject: {mail.subject}\n\n{mail.body.rstrip()}\n\n")
        sys.stderr.flush()
        return
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = settings.mail_from, mail.recipient, mail.subject
    message["Message-ID"] = make_msgid(idstring=f"mail-{mail.id}", domain=settings.mail_from.rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.body)
    server = _connect(settings, settings.smtp_host)
    try:
        server.send_message(message)
    finally:
        with suppress(OSError, smtplib.SMTPException):
            server.quit()


def _connect(settings: Settings, host: str) -> smtplib.SMTP:
    tls = ssl.create_default_context()
    server: smtplib.SMTP
    if settings.smtp_security == "tls":
        server = smtplib.SMTP_SSL(host, settings.smtp_port, timeout=SMTP_SECONDS, context=tls)
    else:
        server = smtplib.SMTP(host, settings.smtp_port, timeout=SMTP_SECONDS)
    try:
        if settings.smtp_security == "starttls":
            server.starttls(context=tls)  # raises where the server has none: nothing is sent in the clear
        if settings.smtp_user is not None and settings.smtp_password is not None:
            server.login(settings.smtp_user, settings.smtp_password.get_secret_value())
    except (OSError, smtplib.SMTPException):
        server.close()
        raise
    return server
