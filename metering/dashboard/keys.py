"""API keys of a customer: seen by its members, made and revoked by its owners and admins.

A change is committed first and sent to Redis at once, so that it holds in every process within a second; the keeper
sends again what could not be sent.
"""

from typing import Any

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from metering.accounts.customers import find_customer
from metering.accounts.in_force import put_in_force
from metering.accounts.keys import create_key, keys_of
from metering.accounts.keys import revoke_key as revoke
from metering.dashboard import presenters
from metering.dashboard.access import Access, current_metering, customer_page, require_key_manager
from metering.dashboard.forms import SCOPES, KeyForm
from metering.dashboard.overview import blueprint
from metering.dashboard.view_models import CreatedKey
from metering.errors import IntakeUnavailable
from metering.extensions import db
from metering.models import Customer

__all__ = ["blueprint"]


@blueprint.route("/c/<customer_key>/keys", methods=["GET", "POST"])
@customer_page
def keys(access: Access) -> ResponseReturnValue:
    customer = _customer(access)
    form = KeyForm()
    if request.method == "GET":
        return _page(access, customer, form)
    require_key_manager(access)
    if not form.validate_on_submit():
        return _page(access, customer, form), 422
    return _create(access, customer, form)


def _create(access: Access, customer: Customer, form: KeyForm) -> ResponseReturnValue:
    """The secret stands in this very answer and nowhere else: a session cookie would keep it readable."""
    _, made = create_key(
        db.session(),
        customer,
        name=form.name.data,
        scopes=form.scopes.data,
        now=current_metering().runtime.clock(),
    )
    db.session.commit()
    created = CreatedKey(form.name.data, made.secret)
    in_force = put_in_force(current_metering().runtime)
    return _page(access, customer, KeyForm(formdata=None), created=created, waits=not in_force)


@blueprint.post("/c/<customer_key>/keys/<int(max=9223372036854775807):key_id>/revoke")
@customer_page
def revoke_key(access: Access, key_id: int) -> ResponseReturnValue:
    require_key_manager(access)
    key = revoke(db.session(), _customer(access), key_id, now=current_metering().runtime.clock())
    name = key.name
    db.session.commit()
    if put_in_force(current_metering().runtime):
        flash(f"Key “{name}” is revoked. Calls with it are refused.", "success")
    else:
        flash(f"Key “{name}” is revoked. It takes effect as soon as live counting is back.", "warning")
    return redirect(url_for("dashboard.keys", customer_key=access.customer_key), 303)


def _customer(access: Access) -> Customer:
    """Raises IntakeUnavailable while PostgreSQL is away: keys are nothing to show from memory."""
    if access.remembered:
        raise IntakeUnavailable("the database does not answer")
    return find_customer(db.session(), access.customer_key)


def _page(access: Access, customer: Customer, form: KeyForm, **more: Any) -> str:
    now = current_metering().runtime.clock()
    return render_template(
        "dashboard/keys.html",
        customer_key=access.customer_key,
        keys=presenters.key_views(keys_of(db.session(), customer), now),
        scopes=SCOPES,
        form=form,
        may_manage=access.may_manage_keys,
        created=more.get("created"),
        waits=more.get("waits", False),
        shell=presenters.shell(access),
    )
