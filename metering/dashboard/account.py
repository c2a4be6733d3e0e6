"""The account of whoever is logged in: name, password, address, sessions. What matters asks for the password again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import login_user, logout_user

from metering.accounts import changes, sessions, two_step
from metering.accounts.changes import Change
from metering.accounts.credentials import (
    BadToken,
    WrongPassword,
    ask_for_email,
    change_email,
    find_email_change,
    require_password,
    set_password,
)
from metering.accounts.users import InvalidUser, normal_email
from metering.dashboard.access import current_metering, user_page
from metering.dashboard.account_forms import PASSWORD_HELP, ChangeEmailForm, ChangePasswordForm, NameForm, PasswordForm
from metering.dashboard.account_views import session_views
from metering.dashboard.frame import frame_of
from metering.dashboard.links import OFTEN, SELDOM, link_to, mail_works, session_user
from metering.dashboard.login import blueprint
from metering.errors import Conflict
from metering.extensions import db, login_throttle
from metering.models import User
from metering.notify.letters import send_letter

__all__ = ["blueprint"]

NOT_YOURS = "This is not your password."


@contextmanager
def changing_self(user: User) -> Iterator[tuple[Change, User]]:
    """One audited transaction, with the user as it stands, for it alone."""
    with changes.change(current_metering().runtime, f"user:{user.email}") as change:
        held = change.session.get_one(User, user.id, with_for_update={"key_share": True})
        held.session_id = user.session_id
        yield change, held


def asks_password(
    name: str, make_form: Callable[[], Any], field: str = "password"
) -> Callable[[Callable[[User, Any], ResponseReturnValue]], Callable[[User], ResponseReturnValue]]:
    """Give the view its form, `name` on the account's page, once that is filled in; the page again where it is not, and
    where the view finds the password in `field` wrong.
    """

    def decorate(view: Callable[[User, Any], ResponseReturnValue]) -> Callable[[User], ResponseReturnValue]:
        @wraps(view)
        def guarded(user: User) -> ResponseReturnValue:
            form = make_form()
            if not form.validate_on_submit():
                return page(user, **{name: form}), 422
            try:
                return view(user, form)
            except WrongPassword:
                form[field].errors = [NOT_YOURS]
                return page(user, **{name: form}), 422

        return guarded

    return decorate


@blueprint.get("/account")
@user_page
def account(user: User) -> ResponseReturnValue:
    return page(user)


def page(user: User, **forms: Any) -> str:
    runtime = current_metering().runtime
    now, session = runtime.clock(), db.session()
    return render_template(
        "accounts/account.html",
        user=user,
        name_form=forms.get("name") or NameForm(formdata=None, name=user.name),
        email_form=forms.get("email") or ChangeEmailForm(formdata=None),
        password_form=forms.get("password") or ChangePasswordForm(formdata=None),
        password_help=PASSWORD_HELP,
        sessions=session_views(sessions.sessions_of(session, user, now=now), user.session_id, now),
        two_step=two_step.is_on(session, user),
        codes_left=two_step.recovery_codes_left(session, user),
        two_step_form=forms.get("two_step") or PasswordForm(formdata=None),
        mail_works=mail_works(),
        shell=frame_of(user),
    )


@blueprint.post("/account/name")
@user_page
def account_name(user: User) -> ResponseReturnValue:
    form = NameForm()
    if not form.validate_on_submit():
        return page(user, name=form), 422
    with changing_self(user) as (change, held):
        held.name = form.name.data
        change.note("user.rename", user=held.id)
    flash("Your name is changed.", "success")
    return back()


@blueprint.post("/account/password")
@login_throttle.limit(OFTEN, key_func=session_user)
@user_page
@asks_password("password", ChangePasswordForm, "current")
def account_password(user: User, form: ChangePasswordForm) -> ResponseReturnValue:
    """All other sessions end; this one goes on as a new one."""
    with changing_self(user) as (change, held):
        require_password(held, form.current.data)
        set_password(change.session, held, form.password.data, now=change.now)
        change.note("user.change_password", user=held.id)
        _come_in_again(change, held)
        if mail_works():
            forgot_link = link_to("accounts.forgot")
            send_letter(change.session, "password_changed", to=held.email, now=change.now, forgot_link=forgot_link)
    login_user(held)
    flash("Your password is changed. All other sessions have ended.", "success")
    return back()


def _come_in_again(change: Change, held: User) -> None:
    address, browser = request.remote_addr or "", request.user_agent.string
    sessions.open_session(change.session, held, address=address, user_agent=browser, now=change.now)


@blueprint.post("/account/email")
@login_throttle.limit(SELDOM, key_func=session_user)
@user_page
@asks_password("email", ChangeEmailForm, "current")
def account_email(user: User, form: ChangeEmailForm) -> ResponseReturnValue:
    """Whether somebody has the address already is told to nobody: then no link is sent."""
    if not mail_works():
        return page(user, email=form), 422
    try:
        address = normal_email(form.email.data)
    except InvalidUser:
        form.email.errors = ["This is no email address."]
        return page(user, email=form), 422
    with changing_self(user) as (change, held):
        require_password(held, form.current.data)
        if token := ask_for_email(change.session, held, address, now=change.now):
            link = link_to("accounts.confirm_email", token=token.secret)
            send_letter(change.session, "email_change", to=address, now=change.now, link=link)
        change.note("user.ask_for_email", user=held.id)
    flash(f"Open the link that was sent to {form.email.data}. Until then your address stays as it is.", "info")
    return back()


@blueprint.route("/account/email/<token>", methods=["GET", "POST"])
@login_throttle.limit(OFTEN, methods=["POST"], key_func=session_user)
@user_page
def confirm_email(user: User, token: str) -> ResponseReturnValue:
    try:
        if request.method == "GET":
            wanted = find_email_change(db.session(), user, token, now=current_metering().runtime.clock())
            return render_template("accounts/confirm_email.html", email=wanted.email, before=user.email, token=token)
        with changing_self(user) as (change, held):
            before = change_email(change.session, held, token, now=change.now)
            change.note("user.change_email", user=held.id, before=before, after=held.email)
    except BadToken:
        return render_template("accounts/bad_link.html"), 404
    except Conflict:
        flash("Somebody else has this address meanwhile.", "error")
        return back()
    flash("Your address is changed.", "success")
    return back()


@blueprint.post("/account/sessions/<int(max=9223372036854775807):session_id>/end")
@user_page
def end_session(user: User, session_id: int) -> ResponseReturnValue:
    with changing_self(user) as (change, held):
        sessions.end_session(change.session, held, session_id, now=change.now)
        change.note("user.end_session", user=held.id)
    flash("The session has ended.", "success")
    return back()


@blueprint.post("/account/sessions/end")
@user_page
def end_sessions(user: User) -> ResponseReturnValue:
    """Log out everywhere, here too."""
    with changing_self(user) as (change, held):
        sessions.end_sessions(change.session, held, now=change.now)
        change.note("user.end_sessions", user=held.id)
    logout_user()
    flash("You are logged out everywhere.", "success")
    return redirect(url_for("accounts.login"), 303)


def back() -> ResponseReturnValue:
    return redirect(url_for("accounts.account"), 303)
