"""Accepting an invitation: by somebody new, who is made a user, or by who is logged in already."""

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select

from metering.accounts.changes import Change, change
from metering.accounts.credentials import BadToken
from metering.accounts.customers import lock_customer
from metering.accounts.in_force import count_seats
from metering.accounts.invitations import invited_to
from metering.accounts.users import add_member, create_user
from metering.dashboard.access import current_metering, logged_in_user
from metering.dashboard.account_forms import PASSWORD_HELP, JoinForm
from metering.dashboard.links import OFTEN
from metering.dashboard.login import blueprint, enter
from metering.errors import Conflict, LimitExceeded
from metering.extensions import db, login_throttle
from metering.models import Customer, Invitation, User

__all__ = ["blueprint"]


@blueprint.route("/invitations/<token>", methods=["GET", "POST"])
@login_throttle.limit(OFTEN, methods=["POST"])
def join(token: str) -> ResponseReturnValue:
    user, form = logged_in_user(), JoinForm()
    try:
        invitation, customer = invited_to(db.session(), token, now=current_metering().runtime.clock())
        known = db.session.scalar(select(User.id).where(User.email == invitation.email)) is not None
        if request.method == "POST" and user is not None:
            return _joined(token, user)
        if request.method == "POST" and not known:
            if form.validate_on_submit():
                return _made(token, form)
            return _page(token, invitation, customer, form), 422
        return _page(token, invitation, customer, form, user=user, known=known)
    except BadToken:
        return render_template("accounts/bad_link.html", invitation=True), 404
    except LimitExceeded:
        return _page(token, invitation, customer, form, user=user, known=known, full=True), 409


def _joined(token: str, user: User) -> ResponseReturnValue:
    """Raises BadToken, LimitExceeded."""
    runtime = current_metering().runtime
    try:
        with change(runtime, f"user:{user.email}") as begun:
            customer = _accept(begun, token, begun.session.get_one(User, user.id))
    except Conflict:
        flash("You are a member already.", "info")
        return redirect(url_for("dashboard.overview"), 303)
    count_seats(runtime)
    flash(f"You belong to {customer.name} now.", "success")
    return redirect(url_for("dashboard.overview", customer_key=customer.key), 303)


def _made(token: str, form: JoinForm) -> ResponseReturnValue:
    """Raises BadToken, LimitExceeded."""
    runtime = current_metering().runtime
    try:
        with runtime.transaction() as own:
            email = invited_to(own, token, now=runtime.clock())[0].email
        with change(runtime, f"user:{email}") as begun:
            user = create_user(begun.session, email=email, password=form.password.data, name=form.name.data)
            customer = _accept(begun, token, user)
    except Conflict:
        flash("There is an account with this address meanwhile. Log in to join.", "info")
        return redirect(url_for("accounts.join", token=token), 303)
    count_seats(runtime)
    return enter(user.id, target=url_for("dashboard.overview", customer_key=customer.key))


def _accept(begun: Change, token: str, user: User) -> Customer:
    """Raises BadToken, Conflict, LimitExceeded. Of two at once the second finds it used: one holds the customer."""
    runtime = current_metering().runtime
    _, customer = invited_to(begun.session, token, now=begun.now)
    lock_customer(begun.session, customer.key)
    invitation, customer = invited_to(begun.session, token, now=begun.now)
    add_member(begun.session, runtime.intake, runtime.catalog, customer, user, invitation.role, now=begun.now)
    invitation.accepted_at = begun.now
    begun.note("member.join", customer, user=user.id, role=invitation.role, invited_by=invitation.invited_by)
    return customer


def _page(
    token: str,
    invitation: Invitation,
    customer: Customer,
    form: JoinForm,
    *,
    user: User | None = None,
    known: bool = False,
    full: bool = False,
) -> str:
    return render_template(
        "accounts/join.html",
        token=token,
        invitation=invitation,
        customer=customer,
        form=form,
        user=user,
        known=known,
        full=full,
        password_help=PASSWORD_HELP,
    )
