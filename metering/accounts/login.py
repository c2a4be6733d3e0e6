"""Who comes in with a cookie, by Flask-Login: it names a session, and ends with the password it was opened with."""

import re

from flask import Response, current_app, request, url_for
from flask_login import LoginManager
from werkzeug.utils import redirect

from metering.accounts.sessions import SEEN_EVERY, find_session, note_seen
from metering.extensions import db
from metering.models import User
from metering.runtime import Runtime

COOKIE = re.compile(r"([0-9]{1,18})\.[0-9a-f]{16}\.([0-9]{1,18})")


def bind(manager: LoginManager) -> None:
    """Teach the login manager who our users are and where to send those who are none."""
    manager.login_view = "accounts.login"
    manager.login_message = None
    manager.user_loader(load_user)
    manager.unauthorized_handler(ask_to_log_in)


def load_user(cookie: str) -> User | None:
    """The user of a session that runs. That it was seen is written down at most once a minute."""
    named = COOKIE.fullmatch(cookie)
    if named is None:
        return None
    runtime: Runtime = current_app.extensions["metering"].runtime
    now = runtime.clock()
    found = find_session(db.session(), int(named[1]), int(named[2]), now=now)
    if found is None:
        return None
    user, opened = found
    user.session_id = opened.id
    if user.get_id() != cookie:
        return None
    if now - opened.last_seen_at >= SEEN_EVERY:
        with runtime.transaction() as own:
            note_seen(own, opened.id, now=now)
    return user


def ask_to_log_in() -> Response:
    """The login page; for a partial a 401 that makes htmx load it, so that it never appears inside a card."""
    if request.headers.get("HX-Request"):
        return Response(status=401, headers={"HX-Redirect": url_for("accounts.login")})
    came_for = request.full_path.rstrip("?") if request.method == "GET" else None
    return redirect(url_for("accounts.login", next=came_for))  # type: ignore[return-value]


def safe_next(target: str | None) -> str | None:
    """`target` if it is a path on this very host: never a way to send people elsewhere.

    Control characters are refused, because browsers and Werkzeug drop them: `/\\t/evil` would become `//evil`.
    """
    if target and target.isprintable() and target.startswith("/") and not target.startswith(("//", "/\\")):
        return target
    return None
