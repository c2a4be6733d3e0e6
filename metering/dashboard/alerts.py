"""The Alerts page: at what a customer is alerted, who hears of it, and what fired. Owners and admins change it; members
dismiss alerts as well; whether an alert reaches oneself by e-mail is one's own choice.
"""

from decimal import Decimal

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import Select, select

from metering import humanize
from metering.dashboard import alert_views, presenters, threshold_form
from metering.dashboard.access import (
    Access,
    current_metering,
    customer_page,
    require_alert_dismisser,
    require_alert_manager,
)
from metering.dashboard.changing import Change, changing
from metering.dashboard.overview import blueprint
from metering.dashboard.threshold_form import ThresholdForm
from metering.errors import IntakeUnavailable, MeteringError, NotPermitted
from metering.extensions import db
from metering.limits import fired, thresholds
from metering.limits.thresholds import BadThreshold, Threshold
from metering.models import Membership, User
from metering.notify.audience import MANAGERS
from metering.notify.endpoints import endpoints_of

__all__ = ["blueprint"]

ALERT = "<int(max=9223372036854775807):alert_id>"


@blueprint.get("/c/<customer_key>/alerts")
@customer_page
def alerts(access: Access) -> ResponseReturnValue:
    return _page(access, ThresholdForm())


@blueprint.post("/c/<customer_key>/alerts/thresholds")
@customer_page
def add_threshold(access: Access) -> ResponseReturnValue:
    require_alert_manager(access)
    form, catalog = ThresholdForm.sent(request.form), current_metering().runtime.catalog
    try:
        wanted = threshold_form.read(catalog, form)
        with changing(access) as change:
            if _is_for_all(wanted):
                thresholds.add_percent(catalog, change.customer, wanted.value)
            else:
                thresholds.add_threshold(change.session, catalog, change.customer, wanted)
            _note(change, "added", wanted)
    except BadThreshold as error:
        return _page(access, form.refused(error)), 422
    if _is_passed(access, wanted):
        flash("The threshold is saved. This period is past it already: it alerts with what is used next.", "info")
    else:
        flash("The threshold is saved. It holds for what is used from now on.", "success")
    return _back(access)


@blueprint.post("/c/<customer_key>/alerts/thresholds/remove")
@customer_page
def remove_threshold(access: Access) -> ResponseReturnValue:
    require_alert_manager(access)
    catalog = current_metering().runtime.catalog
    unwanted = _named(request.form.get("of", ""), request.form.get("kind", ""), request.form.get("value", ""))
    with changing(access) as change:
        if unwanted is None:
            gone = False
        elif _is_for_all(unwanted):
            gone = thresholds.remove_percent(catalog, change.customer, unwanted.value)
        else:
            gone = thresholds.remove_threshold(change.session, change.customer, unwanted)
        if unwanted is not None and gone:
            _note(change, "removed", unwanted)
    if gone:
        flash("The threshold is removed.", "success")
    else:
        flash("This threshold was removed before.", "info")
    return _back(access)


@blueprint.post("/c/<customer_key>/alerts/thresholds/standard")
@customer_page
def use_standard(access: Access) -> ResponseReturnValue:
    """Have the catalog's percents for all meters again."""
    require_alert_manager(access)
    with changing(access) as change:
        thresholds.set_percents(change.customer, None)
        change.note("alert_thresholds.change", change.customer, percents=None)
    flash("The standard holds for all meters again.", "success")
    return _back(access)


@blueprint.post(f"/c/<customer_key>/alerts/{ALERT}/dismiss")
@customer_page
def dismiss_alert(access: Access, alert_id: int) -> ResponseReturnValue:
    require_alert_dismisser(access)
    with changing(access) as change:
        fired.dismiss(change.session, access.customer_id, alert_id, now=change.now)
        change.note("alert.dismiss", change.customer, alert=alert_id)
    flash("The alert is dismissed. It stays in the history.", "success")
    if request.form.get("page") == "overview":
        return redirect(url_for("dashboard.overview", customer_key=access.customer_key), 303)
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
    flash("Alerts reach you by email." if wanted else "Alerts don’t reach you by email any more.", "success")
    return _back(access)


def _is_for_all(threshold: Threshold) -> bool:
    return threshold.meter is None and threshold.kind == "percent"


def _named(of: str, kind: str, value: str) -> Threshold | None:
    """A threshold as the page itself names it; None if nothing can be meant."""
    meter = None if of in (threshold_form.ALL, threshold_form.BILL) else of
    if kind not in ("percent", "quantity", "money") or not threshold_form.NUMBER.fullmatch(value[:64]):
        return None
    return Threshold(kind, meter, Decimal(value[:64].replace(",", "")))  # type: ignore[arg-type]  # it was looked at


def _note(change: Change, what: str, threshold: Threshold) -> None:
    facts = {what: f"{threshold.value:f}", "kind": threshold.kind, "meter": threshold.meter}
    change.note("alert_thresholds.change", change.customer, **facts)


def _page(access: Access, form: ThresholdForm) -> str:
    """Raises IntakeUnavailable while PostgreSQL is away: what is configured is nothing to show from memory."""
    if access.remembered:
        raise IntakeUnavailable("the database does not answer")
    session, runtime = db.session(), current_metering().runtime
    membership = session.scalars(_membership(access)).one_or_none()
    history = fired.history(session, access.customer_id)
    told = fired.told(session, [row.alert.id for row in history])
    own = thresholds.own_thresholds(session, access.customer_id)
    return render_template(
        "dashboard/alerts.html",
        customer_key=access.customer_key,
        groups=alert_views.threshold_groups(runtime.catalog, access, own),
        form=form,
        choices=alert_views.threshold_choices(runtime.catalog),
        amount=humanize.money(Decimal("49.5"), runtime.catalog.currency),
        own_percents=access.own_alert_percents,
        standard=", ".join(f"{percent}%" for percent in runtime.catalog.alert_percents),
        may_manage=access.may_manage_alerts,
        may_dismiss=access.may_dismiss_alerts,
        mails=membership.alert_mails if membership is not None and membership.role in MANAGERS else None,
        email=access.user.email,
        endpoints=endpoints_of(session, access.customer_id),
        fired=alert_views.fired(history, told, runtime.catalog, runtime.clock()),
        shell=presenters.shell(access),
    )


def _is_passed(access: Access, wanted: Threshold) -> bool:
    """As far as can be told now."""
    metering = current_metering()
    try:
        if wanted.kind == "money":
            return metering.estimate(access.customer_key).total >= wanted.value
        used = {one.meter: one for one in metering.summary(access.customer_key).meters}
    except MeteringError:
        return False
    one = used.get(wanted.meter or "")
    if one is None or (wanted.kind == "percent" and not one.limit):
        return False
    return one.used >= (wanted.value if wanted.kind == "quantity" else (one.limit or Decimal(0)) * wanted.value / 100)


def _membership(access: Access) -> Select[Membership]:
    return (
        select(Membership)
        .join(User, User.id == Membership.user_id)
        .where(Membership.customer_id == access.customer_id, User.email == access.user.email)
    )


def _back(access: Access) -> ResponseReturnValue:
    return redirect(url_for("dashboard.alerts", customer_key=access.customer_key), 303)
