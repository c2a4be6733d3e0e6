"""Sessions of logged-in users, by Flask-Login. A session ends with the password it was opened with."""

from flask import Response, request, url_for
from flask_login import LoginManager
from werkzeug.utils import redirect

from metering.extensions import db
from metering.models import User


def bind(manager: LoginManager) -> None:
    """Teach the login manager who our users are and where to send those who are none."""
    manager.login_view = "accounts.login"
    manager.login_message = None
    manager.user_loader(load_user)
    manager.unauthorized_handler(ask_to_log_in)


def load_user(session_id: str) -> User | None:
    user_id, _, _ = session_id.partition(".")
    user = db.session.get(User, int(user_id)) if user_id.isdigit() else None
    return user if user is not None and user.get_id() == session_id else None


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
