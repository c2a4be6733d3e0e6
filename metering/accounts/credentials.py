"""How people prove who they are is changed: new passwords, forgotten ones, other addresses.

Of every link only the digest of its token is kept; it works once, and not after its time. The answer to "I forgot my
password" cannot tell who has an account: it is written down alike for every address, and a job finds out whose it is.
"""

from datetime import datetime, timedelta
from urllib.parse import urljoin

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from metering.accounts.passwords import hash_password, verify_password
from metering.accounts.sessions import end_sessions
from metering.accounts.users import InvalidUser, normal_email
from metering.errors import Conflict, NotFound
from metering.ids import NewToken, key_digest, new_token
from metering.models import AuditEntry, EmailChange, PasswordReset, User
from metering.notify.letters import send_letter
from metering.runtime import Runtime

RESET_KEPT = timedelta(hours=1)
EMAIL_CHANGE_KEPT = timedelta(days=1)
ASKED_KEPT = timedelta(days=7)
BATCH = 100


class BadToken(NotFound):
    """This link was used, has expired, or never was one."""


class WrongPassword(InvalidUser):
    """Not the password of who says to be this user."""


def require_password(user: User, password: str) -> None:
    """Raises WrongPassword. A session that somebody left open changes nothing of importance."""
    if not verify_password(password, user.password_hash):
        raise WrongPassword("this is not your password", field="current")


def set_password(session: Session, user: User, password: str, *, now: datetime) -> None:
    """All sessions of the user end, and so do the links to reset the password before. Raises WeakPassword."""
    user.password_hash = hash_password(password)
    end_sessions(session, user, now=now)
    unused = update(PasswordReset).where(PasswordReset.user_id == user.id, PasswordReset.used_at.is_(None))
    session.execute(unused.values(used_at=now))
    session.flush()


# -- forgotten ---------------------------------------------------------------------------------------------------------


def ask_for_reset(session: Session, email: str, *, base_url: str, now: datetime) -> None:
    """Write down that somebody forgot the password of this address, whether or not there is such a user."""
    address = email.replace("\x00", "").strip().lower()
    session.add(PasswordReset(email=address, base_url=base_url, created_at=now))


def send_reset_links(runtime: Runtime) -> int:
    """Send the links that were asked for; how many. What was asked for addresses of nobody is forgotten in a week."""
    now = runtime.clock()
    with runtime.transaction() as session:
        session.execute(delete(PasswordReset).where(PasswordReset.created_at < now - ASKED_KEPT))
        query = select(PasswordReset, User).outerjoin(User, User.email == PasswordReset.email)
        query = query.where(PasswordReset.handled_at.is_(None)).order_by(PasswordReset.id).limit(BATCH)
        rows = session.execute(query.with_for_update(of=PasswordReset, skip_locked=True)).all()
        for asked, user in rows:
            asked.handled_at = now
            if user is not None:
                link = reset_link(asked.base_url, _promise(asked, user, now))
                send_letter(session, "reset", to=user.email, now=now, link=link)
        return sum(user is not None for _, user in rows)


def new_reset(session: Session, user: User, *, base_url: str, now: datetime) -> str:
    """A link to choose a new password by, for an operator to hand over."""
    asked = PasswordReset(email=user.email, base_url=base_url, created_at=now, handled_at=now)
    session.add(asked)
    return reset_link(base_url, _promise(asked, user, now))


def reset_link(base_url: str, token: NewToken) -> str:
    return urljoin(base_url, f"/reset/{token.secret}")


def _promise(asked: PasswordReset, user: User, now: datetime) -> NewToken:
    token = new_token()
    asked.user_id, asked.digest, asked.expires_at = user.id, token.digest, now + RESET_KEPT
    return token


def find_reset(session: Session, token: str, *, now: datetime) -> User:
    """Whose new password a link may set, for this transaction alone. Raises BadToken."""
    query = select(PasswordReset).where(PasswordReset.digest == key_digest(token)).with_for_update()
    found = session.scalars(query.execution_options(populate_existing=True)).one_or_none()
    if found is None or found.user_id is None or found.used_at is not None or _over(found.expires_at, now):
        raise BadToken("this link was used, or has expired")
    return session.get_one(User, found.user_id)


def reset_password(session: Session, token: str, password: str, *, now: datetime) -> User:
    """Raises BadToken, WeakPassword. Whoever had come in meanwhile is out."""
    user = find_reset(session, token, now=now)
    set_password(session, user, password, now=now)
    session.add(AuditEntry(at=now, actor=f"user:{user.email}", action="user.reset_password", detail={"user": user.id}))
    return user


# -- another address ---------------------------------------------------------------------------------------------------


def ask_for_email(session: Session, user: User, email: str, *, now: datetime) -> NewToken | None:
    """The token for a link that proves the new address; None where somebody has it already. Raises InvalidUser."""
    address = normal_email(email)
    if session.scalar(select(User.id).where(User.email == address)) is not None:
        return None
    token, expires_at = new_token(), now + EMAIL_CHANGE_KEPT
    wanted = {"user_id": user.id, "email": address, "digest": token.digest}
    session.add(EmailChange(**wanted, created_at=now, expires_at=expires_at))
    session.flush()
    return token


def find_email_change(session: Session, user: User, token: str, *, now: datetime) -> EmailChange:
    """Raises BadToken, also for another user's."""
    query = select(EmailChange).where(EmailChange.digest == key_digest(token), EmailChange.user_id == user.id)
    found = session.scalars(query.with_for_update().execution_options(populate_existing=True)).one_or_none()
    if found is None or found.used_at is not None or _over(found.expires_at, now):
        raise BadToken("this link was used, or has expired")
    return found


def change_email(session: Session, user: User, token: str, *, now: datetime) -> str:
    """The address that was; it is told. Raises BadToken, and Conflict where somebody else took the new one."""
    wanted = find_email_change(session, user, token, now=now)
    if session.scalar(select(User.id).where(User.email == wanted.email)) is not None:
        raise Conflict("somebody else has this address meanwhile", field="email")
    before, user.email, wanted.used_at = user.email, wanted.email, now
    unused = update(EmailChange).where(EmailChange.user_id == user.id, EmailChange.used_at.is_(None))
    session.execute(unused.values(used_at=now))
    session.flush()
    send_letter(session, "email_changed", to=before, now=now, new_email=user.email)
    return before


def _over(expires_at: datetime | None, now: datetime) -> bool:
    return expires_at is None or expires_at <= now
