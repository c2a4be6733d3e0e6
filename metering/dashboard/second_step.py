"""The second step of a login, turned on and off by whoever it protects. Each change asks for the password."""

from io import BytesIO

import segno
from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from markupsafe import Markup

from metering.accounts import two_step
from metering.accounts.credentials import require_password
from metering.dashboard.access import user_page
from metering.dashboard.account import asks_password, back, changing_self
from metering.dashboard.account_forms import CodeForm, PasswordForm
from metering.dashboard.frame import frame_of
from metering.dashboard.links import OFTEN, session_user
from metering.dashboard.login import WRONG_CODE, blueprint
from metering.errors import Conflict
from metering.extensions import db, login_throttle
from metering.models import TotpSecret, User

__all__ = ["blueprint"]


@blueprint.post("/account/two-step/begin")
@login_throttle.limit(OFTEN, key_func=session_user)
@user_page
@asks_password("two_step", PasswordForm)
def two_step_begin(user: User, form: PasswordForm) -> ResponseReturnValue:
    try:
        with changing_self(user) as (change, held):
            require_password(held, form.password.data)
            two_step.begin(change.session, held, now=change.now)
            change.note("user.begin_two_step", user=held.id)
    except Conflict:
        return back()
    return redirect(url_for("accounts.two_step_confirm"), 303)


@blueprint.route("/account/two-step", methods=["GET", "POST"])
@login_throttle.limit(OFTEN, methods=["POST"], key_func=session_user)
@user_page
def two_step_confirm(user: User) -> ResponseReturnValue:
    """The QR code until a first code has come; the recovery codes stand in that very answer and nowhere else."""
    form, waiting = CodeForm(), two_step.find_secret(db.session(), user)
    if waiting is None or waiting.confirmed_at is not None:
        return back()
    if request.method == "GET":
        return _setup_page(user, waiting, form)
    if not form.validate_on_submit():
        return _setup_page(user, waiting, form), 422
    try:
        with changing_self(user) as (change, held):
            codes = two_step.confirm(change.session, held, form.code.data, now=change.now)
            if codes is not None:
                change.note("user.turn_on_two_step", user=held.id)
    except Conflict:
        return back()
    if codes is None:
        form.code.errors = [WRONG_CODE]
        return _setup_page(user, waiting, form), 422
    return _codes_page(user, codes)


@blueprint.post("/account/two-step/codes")
@login_throttle.limit(OFTEN, key_func=session_user)
@user_page
@asks_password("two_step", PasswordForm)
def two_step_codes(user: User, form: PasswordForm) -> ResponseReturnValue:
    with changing_self(user) as (change, held):
        require_password(held, form.password.data)
        if not two_step.is_on(change.session, held):
            return back()
        codes = two_step.new_recovery_codes(change.session, held)
        change.note("user.new_recovery_codes", user=held.id)
    return _codes_page(user, codes)


@blueprint.post("/account/two-step/off")
@login_throttle.limit(OFTEN, key_func=session_user)
@user_page
@asks_password("two_step", PasswordForm)
def two_step_off(user: User, form: PasswordForm) -> ResponseReturnValue:
    with changing_self(user) as (change, held):
        require_password(held, form.password.data)
        two_step.turn_off(change.session, held)
        change.note("user.turn_off_two_step", user=held.id)
    flash("The second step is off: your password alone lets you in.", "warning")
    return back()


def _setup_page(user: User, waiting: TotpSecret, form: CodeForm) -> str:
    return render_template(
        "accounts/two_step.html",
        form=form,
        picture=picture(two_step.address(waiting, user)),
        secret=" ".join(two_step.grouped(waiting)),
        shell=frame_of(user),
    )


def _codes_page(user: User, codes: tuple[str, ...]) -> str:
    return render_template("accounts/recovery_codes.html", codes=codes, shell=frame_of(user))


def picture(text: str) -> Markup:
    """A QR code as an SVG without styles: its colours are attributes, dark on light in either theme."""
    svg = BytesIO()
    segno.make(text, error="m").save(
        svg, kind="svg", xmldecl=False, svgclass="qr", lineclass=None, omitsize=True, light="#fff", border=3
    )
    return Markup(svg.getvalue().decode())
