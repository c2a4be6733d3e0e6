"""Logging in and out. Tries are counted by address and by e-mail, so that neither one password list against many
accounts nor many machines against one account get far.
"""

import hashlib

from flask import Blueprint, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_login import login_user, logout_user

from metering.accounts.login import safe_next
from metering.accounts.users import log_in
from metering.dashboard.access import logged_in_user
from metering.dashboard.forms import LoginForm
from metering.extensions import db, login_throttle
from metering.models import User

blueprint = Blueprint("accounts", __name__)

TRIES = "10 per minute"
WRONG = "The email or the password is wrong."
"""The same for an unknown e-mail: nobody learns here who has an account."""


def tried_email() -> str:
    """Hashed: the store that counts tries need not know who they were for."""
    return hashlib.sha256(request.form.get("email", "").strip().lower().encode()).hexdigest()


@blueprint.route("/login", methods=["GET", "POST"])
@login_throttle.limit(TRIES, methods=["POST"])
@login_throttle.limit(TRIES, methods=["POST"], key_func=tried_email)
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
    return _open_session(user, remember=form.remember.data)


@blueprint.post("/logout")
def logout() -> ResponseReturnValue:
    logout_user()
    return redirect(url_for("accounts.login"), 303)


def _open_session(user: User, *, remember: bool) -> ResponseReturnValue:
    """Nothing of the session before survives, its CSRF token included: somebody else may have planted it."""
    target = where_to()
    session.clear()
    login_user(user, remember=remember)
    return redirect(target, 303)


def where_to() -> str:
    return asked_for() or url_for("dashboard.overview")


def asked_for() -> str | None:
    """The page somebody wanted before they had to log in. Control characters are refused: Werkzeug and browsers leave
    them out, and "/<tab>/host" would become "//host".
    """
    target = safe_next(request.values.get("next"))
    return target if target is not None and target.isprintable() else None


def _page(form: LoginForm, error: str | None = None) -> str:
    return render_template("accounts/login.html", form=form, error=error, next_url=asked_for())
