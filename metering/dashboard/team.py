"""The team of a customer: who belongs to it in which role, and who is invited. Owners alone decide who is one."""

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from metering import humanize, quantities
from metering.accounts import invitations, two_step
from metering.accounts.customers import find_customer
from metering.accounts.in_force import count_seats
from metering.accounts.users import SEATS, InvalidUser, change_role, find_member, members_of, remove_member
from metering.billing.rhythm import zone
from metering.catalog import Catalog
from metering.dashboard import presenters
from metering.dashboard.access import Access, current_metering, customer_page, require_team_manager
from metering.dashboard.account_forms import InviteForm, RoleForm
from metering.dashboard.account_views import (
    ROLE_HELP,
    SeatsView,
    invitation_views,
    may_touch,
    member_views,
    roles_to_give,
)
from metering.dashboard.changing import Change, changing
from metering.dashboard.links import link_to, mail_works
from metering.dashboard.overview import blueprint
from metering.errors import Conflict, IntakeUnavailable, NotPermitted
from metering.extensions import db, login_throttle
from metering.ids import NewToken
from metering.models import Invitation
from metering.notify.letters import send_letter

__all__ = ["blueprint"]

ID = "int(max=9223372036854775807)"
SHOWN_MEMBERS = 500
INVITATIONS = "30 per hour"


def this_customer() -> str:
    return str((request.view_args or {}).get("customer_key"))


@blueprint.get("/c/<customer_key>/team")
@customer_page
def team(access: Access) -> ResponseReturnValue:
    return _page(access)


@blueprint.post("/c/<customer_key>/team/invitations")
@login_throttle.limit(INVITATIONS, key_func=this_customer)
@customer_page
def team_invite(access: Access) -> ResponseReturnValue:
    require_team_manager(access)
    form = InviteForm()
    if not form.validate_on_submit() or not mail_works():
        return _page(access, form), 422
    _require_touch(access, form.role.data)
    try:
        with changing(access) as change:
            invitation, token = invitations.invite(
                change.session,
                change.customer,
                form.email.data,
                form.role.data,
                by=access.user.email,
                now=change.now,
            )
            change.note("invitation.send", change.customer, email=invitation.email, role=invitation.role)
            _send(access, change, invitation, token)
    except InvalidUser:
        form.email.errors = ["This is no email address."]
        return _page(access, form), 422
    except Conflict as error:
        form.email.errors = [f"{error.message[0].upper()}{error.message[1:]}."]
        return _page(access, form), 422
    flash(f"{invitation.email} is invited. The link in the email works for a week.", "success")
    return _back(access)


@blueprint.post(f"/c/<customer_key>/team/invitations/<{ID}:invitation_id>/resend")
@login_throttle.limit(INVITATIONS, key_func=this_customer)
@customer_page
def team_resend(access: Access, invitation_id: int) -> ResponseReturnValue:
    require_team_manager(access)
    with changing(access) as change:
        found = invitations.find_invitation(change.session, change.customer, invitation_id)
        _require_touch(access, found.role)
        if mail_works():
            invitation, token = invitations.renew(change.session, change.customer, invitation_id, now=change.now)
            change.note("invitation.resend", change.customer, email=invitation.email)
            _send(access, change, invitation, token)
            flash(f"Sent again to {invitation.email}. The link before does not work any more.", "success")
    return _back(access)


@blueprint.post(f"/c/<customer_key>/team/invitations/<{ID}:invitation_id>/withdraw")
@customer_page
def team_withdraw(access: Access, invitation_id: int) -> ResponseReturnValue:
    require_team_manager(access)
    with changing(access) as change:
        found = invitations.find_invitation(change.session, change.customer, invitation_id)
        _require_touch(access, found.role)
        invitations.withdraw(change.session, change.customer, invitation_id, now=change.now)
        change.note("invitation.withdraw", change.customer, email=found.email)
    flash(f"The invitation of {found.email} is withdrawn.", "success")
    return _back(access)


@blueprint.post(f"/c/<customer_key>/team/<{ID}:user_id>/role")
@customer_page
def team_role(access: Access, user_id: int) -> ResponseReturnValue:
    require_team_manager(access)
    form = RoleForm()
    if not form.validate_on_submit():
        return _page(access), 422
    try:
        with changing(access) as change:
            member = find_member(change.session, change.customer, user_id)
            _require_touch(access, member.role, form.role.data)
            change_role(change.session, change.customer, user_id, form.role.data)
            change.note("member.change", change.customer, user=user_id, role=form.role.data)
    except Conflict:
        return _last_owner(access)
    flash(f"{member.user.name or member.user.email} is {form.role.data} now.", "success")
    return _back(access)


@blueprint.post(f"/c/<customer_key>/team/<{ID}:user_id>/remove")
@customer_page
def team_remove(access: Access, user_id: int) -> ResponseReturnValue:
    require_team_manager(access)
    runtime = current_metering().runtime
    try:
        with changing(access) as change:
            member = find_member(change.session, change.customer, user_id)
            _require_touch(access, member.role)
            email = member.user.email
            remove_member(change.session, runtime.intake, runtime.catalog, change.customer, user_id, now=change.now)
            change.note("member.remove", change.customer, user=user_id)
    except Conflict:
        return _last_owner(access)
    count_seats(runtime)
    if email == access.user.email:
        flash(f"You have left {access.customer_name}.", "success")
        return redirect(url_for("dashboard.overview"), 303)
    flash(f"{email} is removed, and the seat is free.", "success")
    return _back(access)


def _require_touch(access: Access, *roles: str) -> None:
    """Raises NotPermitted."""
    if not all(may_touch(access, role) for role in roles):
        raise NotPermitted("only owners decide who is an owner")


def _last_owner(access: Access) -> ResponseReturnValue:
    flash("The last owner stays. Make somebody else an owner first.", "error")
    return _back(access)


def _send(access: Access, change: Change, invitation: Invitation, token: NewToken) -> None:
    send_letter(
        change.session,
        "invitation",
        to=invitation.email,
        now=change.now,
        customer_id=change.customer.id,
        invited_by=access.user.name,
        customer=change.customer.name,
        role=invitation.role,
        link=link_to("accounts.join", token=token.secret),
        until=humanize.moment(invitation.expires_at, zone(access.timezone)),
    )


def _back(access: Access) -> ResponseReturnValue:
    return redirect(url_for("dashboard.team", customer_key=access.customer_key), 303)


def _page(access: Access, form: InviteForm | None = None) -> str:
    """Raises IntakeUnavailable while PostgreSQL is away."""
    if access.remembered:
        raise IntakeUnavailable("the database does not answer")
    runtime, session = current_metering().runtime, db.session()
    customer, now = find_customer(session, access.customer_key), runtime.clock()
    members = members_of(session, customer, after=None, limit=SHOWN_MEMBERS)
    waiting = invitations.open_invitations(session, customer)
    return render_template(
        "dashboard/team.html",
        customer_key=access.customer_key,
        members=member_views(access, members, two_step.who_has_it(session, [one.user_id for one in members]), now),
        invitations=invitation_views(access, waiting, now),
        seats=_seats(access, len(members), len(waiting)),
        roles=roles_to_give(access),
        role_help=ROLE_HELP,
        form=form or InviteForm(formdata=None),
        may_manage=access.may_manage_team,
        tells_two_step=access.may_manage_team or access.user.is_operator,
        mail_works=mail_works(),
        shell=presenters.shell(access),
    )


def _seats(access: Access, members: int, waiting: int) -> SeatsView | None:
    """None where the catalog counts no seats."""
    catalog = current_metering().runtime.catalog
    if SEATS not in catalog.meters:
        return None
    limit, mode = catalog.limit_units(access.plan, catalog.meters[SEATS])
    return SeatsView(members, limit if mode == "hard" else None, waiting, price=_seat_price(access, catalog))


def _seat_price(access: Access, catalog: Catalog) -> str:
    """Empty where seats cost nothing, or too little can be said of it in a sentence."""
    price = catalog.price(access.plan, SEATS)
    if price is None or price.tiers or price.size != 1 or not price.amount:
        return ""
    limit, mode = catalog.limit_units(access.plan, catalog.meters[SEATS])
    if mode == "hard" and limit is not None and limit <= price.included:
        return ""  # there is none to be had
    each = f"{humanize.unit_price(price.amount, catalog.currency)} a billing period"
    if not price.included:
        return f"Each {price.unit} costs {each}."
    free = f"{humanize.exact(price.included)} {quantities.unit_word(price.unit, price.included)}"
    return f"{free} {'is' if price.included == 1 else 'are'} included; each further one costs {each}."
