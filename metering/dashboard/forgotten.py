"""Forgotten passwords. The answer is the same, and takes the same, for an address of nobody."""

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from metering.accounts.credentials import BadToken, ask_for_reset, find_reset, reset_password
from metering.dashboard.access import current_metering
from metering.dashboard.account_forms import PASSWORD_HELP, ForgotForm, ResetForm
from metering.dashboard.links import OFTEN, SELDOM, base_url, link_to, mail_works, named_email
from metering.dashboard.login import blueprint
from metering.extensions import login_throttle
from metering.notify.letters import send_letter

__all__ = ["blueprint"]


@blueprint.route("/forgot", methods=["GET", "POST"])
@login_throttle.limit(OFTEN, methods=["POST"])
@login_throttle.limit(SELDOM, methods=["POST"], key_func=named_email)
def forgot() -> ResponseReturnValue:
    if not mail_works():
        return render_template("accounts/no_mail.html", title="Forgot your password?"), 503
    form = ForgotForm()
    if request.method == "GET":
        return render_template("accounts/forgot.html", form=form)
    if not form.validate_on_submit():
        return render_template("accounts/forgot.html", form=form), 422
    runtime = current_metering().runtime
    with runtime.transaction() as own:
        ask_for_reset(own, form.email.data, base_url=base_url(), now=runtime.clock())
    return redirect(url_for("accounts.mail_sent", what="reset"), 303)


@blueprint.route("/reset/<token>", methods=["GET", "POST"])
@login_throttle.limit(OFTEN, methods=["POST"])
def reset(token: str) -> ResponseReturnValue:
    runtime, form = current_metering().runtime, ResetForm()
    try:
        with runtime.transaction() as own:
            find_reset(own, token, now=runtime.clock())
        if request.method == "GET":
            return _page(form, token)
        if not form.validate_on_submit():
            return _page(form, token), 422
        with runtime.transaction() as own:
            user = reset_password(own, token, form.password.data, now=runtime.clock())
            if mail_works():
                forgot_link, now = link_to("accounts.forgot"), runtime.clock()
                send_letter(own, "password_changed", to=user.email, now=now, forgot_link=forgot_link)
    except BadToken:
        return render_template("accounts/bad_link.html"), 404
    flash("Your password is changed, and all sessions have ended. Log in with the new one.", "success")
    return redirect(url_for("accounts.login"), 303)


def _page(form: ResetForm, token: str) -> str:
    return render_template("accounts/reset.html", form=form, token=token, password_help=PASSWORD_HELP)
