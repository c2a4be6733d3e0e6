"""Signing up, and confirming the address: who gets which answer tells nobody who has an account."""

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from metering.accounts.credentials import BadToken, WrongPassword
from metering.accounts.customers import InvalidCustomer
from metering.accounts.sign_up import ask_for_account, confirm_sign_up, find_sign_up
from metering.accounts.users import InvalidUser
from metering.dashboard.access import current_metering
from metering.dashboard.account_forms import PASSWORD_HELP, PasswordForm, SignUpForm
from metering.dashboard.links import OFTEN, SELDOM, link_to, mail_works, named_email
from metering.dashboard.login import blueprint, enter
from metering.errors import Conflict
from metering.extensions import login_throttle
from metering.notify.letters import send_letter

__all__ = ["blueprint"]


@blueprint.route("/signup", methods=["GET", "POST"])
@login_throttle.limit(OFTEN, methods=["POST"])
@login_throttle.limit(SELDOM, methods=["POST"], key_func=named_email)
def sign_up() -> ResponseReturnValue:
    if not current_metering().settings.sign_up_is_open:
        return render_template("accounts/closed.html"), 403
    if not mail_works():
        return render_template("accounts/no_mail.html", title="Sign up"), 503
    form = SignUpForm()
    if request.method == "GET":
        return _page(form)
    if not form.validate_on_submit():
        return _page(form), 422
    try:
        _ask(form)
    except InvalidUser:
        form.email.errors = ["This is no email address."]
        return _page(form), 422
    except InvalidCustomer:
        form.organization.errors = ["Plain characters only."]
        return _page(form), 422
    return redirect(url_for("accounts.mail_sent", what="signup"), 303)


def _ask(form: SignUpForm) -> None:
    runtime = current_metering().runtime
    now, email = runtime.clock(), form.email.data.lower()
    with runtime.transaction() as own:
        token, known = ask_for_account(
            own,
            email=email,
            password=form.password.data,
            name=form.name.data,
            organization=form.organization.data,
            now=now,
        )
        if known:
            login_link, forgot_link = link_to("accounts.login"), link_to("accounts.forgot")
            send_letter(own, "sign_up_again", to=email, now=now, login_link=login_link, forgot_link=forgot_link)
        else:
            link, facts = link_to("accounts.verify", token=token.secret), form
            name, organization = facts.name.data, facts.organization.data
            send_letter(own, "sign_up", to=email, now=now, link=link, name=name, organization=organization)


@blueprint.get("/mail-sent")
def mail_sent() -> ResponseReturnValue:
    return render_template("accounts/mail_sent.html", what=request.args.get("what"))


@blueprint.route("/verify/<token>", methods=["GET", "POST"])
@login_throttle.limit(OFTEN, methods=["POST"])
def verify(token: str) -> ResponseReturnValue:
    """Opening the link changes nothing: programs that look through e-mails do it, too."""
    runtime, form = current_metering().runtime, PasswordForm()
    try:
        with runtime.transaction() as own:
            wanted = find_sign_up(own, token, now=runtime.clock())
        if request.method == "GET":
            return render_template("accounts/verify.html", form=form, wanted=wanted, token=token)
        if not form.validate_on_submit():
            return render_template("accounts/verify.html", form=form, wanted=wanted, token=token), 422
        user = confirm_sign_up(runtime, token, form.password.data)
    except BadToken:
        return render_template("accounts/bad_link.html"), 404
    except WrongPassword:
        form.password.errors = ["This is not the password you chose."]
        return render_template("accounts/verify.html", form=form, wanted=wanted, token=token), 422
    except Conflict:
        flash("There is an account with this address already. Log in.", "info")
        return redirect(url_for("accounts.login"), 303)
    answer = enter(user.id)
    flash("Your address is confirmed. Welcome!", "success")
    return answer


def _page(form: SignUpForm) -> str:
    return render_template("accounts/sign_up.html", form=form, password_help=PASSWORD_HELP)
