"""Sessions of logged-in users: opened by a login, listed, ended. One that has ended lets nobody in any more."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, CursorResult, and_, delete, or_, select, update
from sqlalchemy.orm import Session

from metering.errors import NotFound
from metering.models import User, UserSession

SEEN_EVERY = timedelta(minutes=1)
KEPT = timedelta(days=30)
"""A session that was not seen for this long has ended: so has the cookie of who is kept logged in."""

MAX_USER_AGENT = 400


def open_session(session: Session, user: User, *, address: str, user_agent: str, now: datetime) -> UserSession:
    """A new session, by which `user` comes in from now on; those that ended long ago are forgotten."""
    ended = or_(UserSession.ended_at < now - KEPT, UserSession.last_seen_at < now - KEPT)
    session.execute(delete(UserSession).where(UserSession.user_id == user.id, ended))
    opened = UserSession(
        user_id=user.id,
        address=address,
        user_agent=user_agent.replace("\x00", "")[:MAX_USER_AGENT],
        created_at=now,
        last_seen_at=now,
    )
    session.add(opened)
    session.flush()
    user.session_id = opened.id
    return opened


def find_session(session: Session, user_id: int, session_id: int, *, now: datetime) -> tuple[User, UserSession] | None:
    """Whose session this is, if it runs."""
    query = select(User, UserSession).join(UserSession, UserSession.user_id == User.id)
    row = session.execute(query.where(User.id == user_id, UserSession.id == session_id, _runs(now))).one_or_none()
    return None if row is None else (row[0], row[1])


def note_seen(session: Session, session_id: int, *, now: datetime) -> None:
    seen_before = UserSession.last_seen_at <= now - SEEN_EVERY
    session.execute(update(UserSession).where(UserSession.id == session_id, seen_before).values(last_seen_at=now))


def sessions_of(session: Session, user: User, *, now: datetime) -> Sequence[UserSession]:
    """Those that run, seen last first."""
    query = select(UserSession).where(UserSession.user_id == user.id, _runs(now))
    return session.scalars(query.order_by(UserSession.last_seen_at.desc(), UserSession.id.desc())).all()


def end_session(session: Session, user: User, session_id: int, *, now: datetime) -> None:
    """Raises NotFound for one that is another's, or has ended."""
    owned = and_(UserSession.id == session_id, UserSession.user_id == user.id, UserSession.ended_at.is_(None))
    ended = session.execute(update(UserSession).where(owned).values(ended_at=now))
    assert isinstance(ended, CursorResult)
    if not ended.rowcount:
        raise NotFound("there is no such session", session=session_id)


def end_sessions(session: Session, user: User, *, now: datetime, but: int = 0) -> None:
    """End all sessions of a user, `but` one."""
    others = and_(UserSession.user_id == user.id, UserSession.id != but, UserSession.ended_at.is_(None))
    session.execute(update(UserSession).where(others).values(ended_at=now))


def _runs(now: datetime) -> ColumnElement[bool]:
    return and_(UserSession.ended_at.is_(None), UserSession.last_seen_at > now - KEPT)
