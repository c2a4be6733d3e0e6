"""The Alerts page: at which thresholds a customer is alerted, who hears of it, and what fired. Owners and admins change
it; whether an alert reaches oneself by e-mail is one's own choice.
"""

import re

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import Select, select

from metering.dashboard import alert_views, presenters
from metering.dashboard.access import Access, current_metering, customer_page, require_alert_manager
from metering.dashboard.changing import changing
from metering.dashboard.overview import blueprint
from metering.errors import IntakeUnavailable, InvalidUsage, NotPermitted
from metering.extensions import db
from metering.limits.alerts import history, set_percents
from metering.models import Membership, User
from metering.notify.audience import MANAGERS
from metering.notify.endpoints import endpoints_of

__all__ = ["blueprint"]

MOST_PERCENTS = 10
HIGHEST_PERCENT = 1000


@blueprint.get("/c/<customer_key>/alerts")
@customer_page
def alerts(access: Access) -> ResponseReturnValue:
    return _page(access)


@blueprint.post("/c/<customer_key>/alerts/thresholds")
@customer_page
def set_thresholds(access: Access) -> ResponseReturnValue:
    require_alert_manager(access)
    inherit = request.form.get("inherit") is not None
    written = request.form.get("percents", "")
    try:
        percents = None if inherit else percents_written(written)
    except InvalidUsage as error:
        return _page(access, written=written, fault=error.message), 422
    with changing(access) as change:
        set_percents(change.customer, percents)
        change.note("alert_thresholds.change", change.customer, percents=change.customer.alert_percents)
    flash("The thresholds are saved. They hold for what is used from now on.", "success")
    return _back(access)


@blueprint.post("/c/<customer_key>/alerts/mails")
@customer_page
def set_mails(access: Access) -> ResponseReturnValue:
    """Whether this very user gets alerts by e-mail. Raises NotPermitted for those they are never sent to."""
    if access.role not in MANAGERS:
        raise NotPermitted("alerts are sent to owners and admins")
    with changing(access) as change:
        wanted = request.form.get("wanted") == "yes"
        membership = change.session.scalars(_membership(access).with_for_update()).one()
        membership.alert_mails = wanted
        change.note("alert_mails.change", change.customer, wanted=wanted)
    flash("Alerts reach you by e-mail." if wanted else "Alerts don’t reach you by e-mail any more.", "success")
    return _back(access)


def percents_written(text: str) -> list[int]:
    """What somebody wrote as "50, 80, 100". Raises InvalidUsage."""
    words = [word.removesuffix("%") for word in re.split(r"[\s,;]+", text.replace(" %", "%").strip()) if word]
    percents = sorted({int(word) for word in words if re.fullmatch(r"[0-9]{1,4}", word)})
    if len(percents) > MOST_PERCENTS or any(not 1 <= percent <= HIGHEST_PERCENT for percent in percents):
        raise InvalidUsage(f"At most {MOST_PERCENTS} thresholds, each from 1 to {HIGHEST_PERCENT} percent.")
    if not all(re.fullmatch(r"[0-9]{1,4}", word) for word in words):
        raise InvalidUsage("Write whole percents with commas between them, such as 50, 80, 100.")
    return percents


def _page(access: Access, *, written: str | None = None, fault: str | None = None) -> str:
    """Raises IntakeUnavailable while PostgreSQL is away: what is configured is nothing to show from memory."""
    if access.remembered:
        raise IntakeUnavailable("the database does not answer")
    session, runtime = db.session(), current_metering().runtime
    membership = session.scalars(_membership(access)).one_or_none()
    percents = ", ".join(str(percent) for percent in access.alert_percents)
    return render_template(
        "dashboard/alerts.html",
        customer_key=access.customer_key,
        percents=access.alert_percents,
        written=percents if written is None else written,
        fault=fault,
        own=access.own_alert_percents,
        standard=", ".join(f"{percent}%" for percent in runtime.catalog.alert_percents),
        may_manage=access.may_manage_alerts,
        mails=membership.alert_mails if membership is not None and membership.role in MANAGERS else None,
        email=access.user.email,
        endpoints=endpoints_of(session, access.customer_id),
        fired=alert_views.fired(history(session, access.customer_id), runtime.catalog, access, runtime.clock()),
        shell=presenters.shell(access),
    )


def _membership(access: Access) -> Select[Membership]:
    return (
        select(Membership)
        .join(User, User.id == Membership.user_id)
        .where(Membership.customer_id == access.customer_id, User.email == access.user.email)
    )


def _back(access: Access) -> ResponseReturnValue:
    return redirect(url_for("dashboard.alerts", customer_key=access.customer_key), 303)
