"""Logging in and out. Tries are counted by address and by e-mail, so that neither one password list against many
accounts nor many machines against one account get far.

With a second step the password alone opens no session: the cookie remembers for a few minutes that it was right.
"""

from datetime import datetime, timedelta
from typing import Any

from flask import Blueprint, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_login import login_user, logout_user

from metering.accounts import two_step
from metering.accounts.login import safe_next
from metering.accounts.sessions import end_session, open_session
from metering.accounts.users import log_in
from metering.clock import to_micros
from metering.dashboard.access import current_metering, logged_in_user
from metering.dashboard.account_forms import CodeForm
from metering.dashboard.forms import LoginForm
from metering.dashboard.links import OFTEN, named_email
from metering.errors import NotFound
from metering.extensions import db, login_throttle
from metering.models import User

blueprint = Blueprint("accounts", __name__)

WRONG = "The email or the password is wrong."
"""The same for an unknown e-mail: nobody learns here who has an account."""

WRONG_CODE = "This code is wrong, or was used before."
SECOND_STEP_KEPT = timedelta(minutes=5)
CODES = "10 per minute;30 per hour;100 per day"


@blueprint.route("/login", methods=["GET", "POST"])
@login_throttle.limit(OFTEN, methods=["POST"])
@login_throttle.limit(OFTEN, methods=["POST"], key_func=named_email)
def login() -> ResponseReturnValue:
    if request.method == "GET" and logged_in_user() is not None:
        return redirect(where_to())
    form = LoginForm()
    if request.method == "GET":
        return _page(form)
    if not form.validate_on_submit():
        return _page(form), 422
    user = log_in(db.session(), form.email.data, form.password.data)
    if user is None:
        return _page(form, error=WRONG), 401
    if two_step.is_on(db.session(), user):
        return _ask_for_code(user, remember=form.remember.data)
    return enter(user.id, remember=form.remember.data)


def waiting_user() -> str:
    """Whose second step it is, for counting tries."""
    return f"user {session.get('second_step', {}).get('user')}"


@blueprint.route("/login/code", methods=["GET", "POST"])
@login_throttle.limit(CODES, methods=["POST"], key_func=waiting_user)
def login_code() -> ResponseReturnValue:
    waiting, form = session.get("second_step", {}), CodeForm()
    runtime = current_metering().runtime
    if not waiting or to_micros(runtime.clock()) > waiting["until"]:
        session.pop("second_step", None)
        return redirect(url_for("accounts.login"), 303)
    if request.method == "GET":
        return render_template("accounts/code.html", form=form, error=None)
    if not form.validate_on_submit():
        return render_template("accounts/code.html", form=form, error=None), 422
    with runtime.transaction() as own:
        user = own.get(User, waiting["user"])
        known = user is not None and user.password_mark == waiting["mark"]
        right = user is not None and known and two_step.check(own, user, form.code.data, now=runtime.clock())
    if not right:
        return render_template("accounts/code.html", form=form, error=WRONG_CODE), 401
    return enter(waiting["user"], remember=waiting["remember"], target=waiting["next"])


@blueprint.post("/logout")
def logout() -> ResponseReturnValue:
    """Ends the session where it is kept, too: a copy of the cookie lets nobody in."""
    user = logged_in_user()
    if user is not None:
        runtime = current_metering().runtime
        _end(user, runtime.clock())
    logout_user()
    return redirect(url_for("accounts.login"), 303)


def _end(user: User, now: datetime) -> None:
    with current_metering().runtime.transaction() as own:
        try:
            end_session(own, user, user.session_id, now=now)
        except NotFound:
            return  # it has ended meanwhile, as was wanted


def enter(user_id: int, *, remember: bool = False, target: str | None = None) -> ResponseReturnValue:
    """Open a session. Nothing of the one before survives, its CSRF token included: somebody may have planted it."""
    runtime = current_metering().runtime
    target = target or where_to()
    with runtime.transaction() as own:
        user = own.get_one(User, user_id)
        address, browser = request.remote_addr or "", request.user_agent.string
        open_session(own, user, address=address, user_agent=browser, now=runtime.clock())
    session.clear()
    login_user(user, remember=remember)
    return redirect(target, 303)


def _ask_for_code(user: User, *, remember: bool) -> ResponseReturnValue:
    until = current_metering().runtime.clock() + SECOND_STEP_KEPT
    waiting: dict[str, Any] = {"user": user.id, "mark": user.password_mark, "until": to_micros(until)}
    target = where_to()
    session.clear()
    session["second_step"] = waiting | {"remember": remember, "next": target}
    return redirect(url_for("accounts.login_code"), 303)


def where_to() -> str:
    return asked_for() or url_for("dashboard.overview")


def asked_for() -> str | None:
    """The page somebody wanted before they had to log in. Control characters are refused: Werkzeug and browsers leave
    them out, and "/<tab>/host" would become "//host".
    """
    target = safe_next(request.values.get("next"))
    return target if target is not None and target.isprintable() else None


def _page(form: LoginForm, error: str | None = None) -> str:
    sign_up = current_metering().settings.sign_up_is_open
    return render_template("accounts/login.html", form=form, error=error, next_url=asked_for(), sign_up=sign_up)
