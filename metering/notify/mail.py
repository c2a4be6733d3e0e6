"""E-mail: posted in the transaction of what it tells of, delivered afterwards, tried again for a day.

Without an SMTP server of one's own (METERING_SMTP_HOST) development prints what it would send; production keeps it
until it expires.
"""

import smtplib
import ssl
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.utils import make_msgid

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.ids import without_tokens
from metering.models import Mail
from metering.runtime import Runtime
from metering.settings import Settings

KEPT_FOR = timedelta(days=1)
FIRST_WAIT = timedelta(seconds=30)
LONGEST_WAIT = timedelta(hours=2)
SMTP_SECONDS = 10.0
BATCH = 50

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
    """Send what is due; how many went out. A killed sender may send one twice, never none."""
    sent = 0
    while rows := _send_some(runtime):
        sent += sum(mail.sent_at is not None for mail in rows)
        if len(rows) < BATCH:
            break
    return sent


def _send_some(runtime: Runtime) -> Sequence[Mail]:
    now = runtime.clock()
    with runtime.transaction() as session:
        query = select(Mail).where(Mail.next_try_at <= now).order_by(Mail.next_try_at, Mail.id).limit(BATCH)
        rows = session.scalars(query.with_for_update(skip_locked=True)).all()
        for mail in rows:
            _try(runtime.settings, mail, now)
        return rows


def _try(settings: Settings, mail: Mail, now: datetime) -> None:
    mail.tries += 1
    try:
        deliver(settings, mail)
    except (OSError, smtplib.SMTPException) as error:
        mail.fault = f"{type(error).__name__}: {error}"
        wait = min(FIRST_WAIT * 2 ** (mail.tries - 1), LONGEST_WAIT)
        mail.next_try_at = now + wait if now + wait < mail.expires_at else None
        log.warning("mail_not_sent", mail=mail.id, tries=mail.tries, given_up=mail.next_try_at is None)
    else:
        mail.sent_at, mail.next_try_at, mail.fault = now, None, None
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
        if settings.smtp_security == "starttls":
            server.starttls(context=tls)
    if settings.smtp_user is not None and settings.smtp_password is not None:
        server.login(settings.smtp_user, settings.smtp_password.get_secret_value())
    return server
