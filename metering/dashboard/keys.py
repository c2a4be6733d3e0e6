"""API keys of a customer: seen by its members, made, replaced and revoked by its owners and admins.

A secret stands in the one answer that makes it and nowhere else: a session cookie would keep it readable.
"""

from collections.abc import Sequence

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from metering.accounts.customers import find_customer
from metering.accounts.keys import create_key, keys_of, rotate_key
from metering.accounts.keys import revoke_key as revoke
from metering.billing.rhythm import zone
from metering.dashboard import presenters
from metering.dashboard.access import Access, current_metering, customer_page, require_key_manager
from metering.dashboard.changing import changing
from metering.dashboard.forms import OVERLAPS, SCOPES, KeyForm, RotateForm
from metering.dashboard.overview import blueprint
from metering.dashboard.view_models import CreatedKey
from metering.errors import Conflict, IntakeUnavailable, NotFound, NotPermitted
from metering.extensions import db
from metering.models import ApiKey, Customer

__all__ = ["blueprint"]

KEY = "<int(max=9223372036854775807):key_id>"


@blueprint.route("/c/<customer_key>/keys", methods=["GET", "POST"])
@customer_page
def keys(access: Access) -> ResponseReturnValue:
    form = KeyForm()
    if request.method == "GET":
        return _page(access, form)
    _customer(access)
    require_key_manager(access)
    if not form.validate_on_submit():
        return _page(access, form), 422
    return _page(access, KeyForm(formdata=None), created=make_key(access, form.name.data, form.scopes.data))


def make_key(access: Access, name: str, scopes: Sequence[str]) -> CreatedKey:
    """Check first that the user may. Raises IntakeUnavailable while PostgreSQL is away."""
    with changing(access) as change:
        key, made = create_key(
            change.session, change.customer, name=name, scopes=scopes, now=change.now, by=change.actor
        )
        change.note("key.create", change.customer, key=key.id, name=name, scopes=list(scopes))
    return CreatedKey(key.id, name, made.secret)


@blueprint.post(f"/c/<customer_key>/keys/{KEY}/rotate")
@customer_page
def rotate(access: Access, key_id: int) -> ResponseReturnValue:
    _customer(access)
    require_key_manager(access)
    form = RotateForm()
    if not form.validate_on_submit():
        return _page(access, KeyForm(formdata=None)), 422
    overlap = int(form.overlap.data)
    try:
        with changing(access) as change:
            successor, made = rotate_key(
                change.session, change.customer, key_id, overlap_seconds=overlap, now=change.now, by=change.actor
            )
            change.note("key.rotate", change.customer, key=key_id, successor=successor.id, overlap_seconds=overlap)
    except Conflict:
        flash("This key was revoked or replaced before. Replace the newer one, or create another.", "error")
        return _back(access)
    except NotPermitted:
        flash("Operators gave this key what you can’t grant: ask them for a new one.", "error")
        return _back(access)
    return _page(access, KeyForm(formdata=None), created=CreatedKey(successor.id, successor.name, made.secret))


@blueprint.get(f"/c/<customer_key>/keys/{KEY}/rotate")
@customer_page
def rotated(access: Access, key_id: int) -> ResponseReturnValue:
    """For who loads the page of a new key again: it is shown once."""
    if all(key.id != key_id for key in keys_of(db.session(), _customer(access))):
        raise NotFound("there is no such key")
    return _back(access)


@blueprint.post(f"/c/<customer_key>/keys/{KEY}/revoke")
@customer_page
def revoke_key(access: Access, key_id: int) -> ResponseReturnValue:
    _customer(access)
    require_key_manager(access)
    with changing(access) as change:
        key = revoke(change.session, change.customer, key_id, now=change.now)
        change.note("key.revoke", change.customer, key=key_id)
    if in_force(key_id):
        flash(f"Key “{key.name}” is revoked. Calls with it are refused.", "success")
    else:
        flash(f"Key “{key.name}” is revoked. It takes effect as soon as live counting is back.", "warning")
    return _back(access)


def in_force(key_id: int) -> bool:
    """Whether the intake has been told of a key as it stands; else the keeper tells it as soon as it can."""
    key = db.session.get(ApiKey, key_id, populate_existing=True)
    return key is not None and key.sent_version >= key.state_version


def _back(access: Access) -> ResponseReturnValue:
    return redirect(url_for("dashboard.keys", customer_key=access.customer_key), 303)


def _customer(access: Access) -> Customer:
    """Raises IntakeUnavailable while PostgreSQL is away: keys are nothing to show from memory."""
    if access.remembered:
        raise IntakeUnavailable("the database does not answer")
    return find_customer(db.session(), access.customer_key)


def _page(access: Access, form: KeyForm, created: CreatedKey | None = None) -> str:
    now, where = current_metering().runtime.clock(), zone(access.timezone)
    found = keys_of(db.session(), _customer(access))
    return render_template(
        "dashboard/keys.html",
        customer_key=access.customer_key,
        keys=presenters.key_views(found, now, where),
        scopes=SCOPES,
        overlaps=OVERLAPS,
        form=form,
        may_manage=access.may_manage_keys,
        created=created,
        waits=created is not None and not in_force(created.key_id),
        shell=presenters.shell(access),
    )
