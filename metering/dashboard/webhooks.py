"""A customer's webhooks out: its endpoints, their secrets, and the log of what was delivered. All of the customer's
people see them; owners and admins change them. A secret stands in the very answer that made it, and nowhere else.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.dashboard import presenters, webhook_views
from metering.dashboard.access import Access, current_metering, customer_page, require_alert_manager
from metering.dashboard.changing import changing
from metering.dashboard.overview import blueprint
from metering.dashboard.webhook_log import read_log
from metering.errors import Conflict, IntakeUnavailable, InvalidUsage, MeteringError, NotFound
from metering.extensions import db
from metering.models import WebhookDelivery
from metering.notify import deliveries
from metering.notify.destination import BadDestination
from metering.notify.endpoints import (
    EVENTS,
    change_endpoint,
    create_endpoint,
    endpoints_of,
    find_endpoint,
    rotate,
    switch_off,
    switch_on,
)

__all__ = ["blueprint"]

ENDPOINT = "/c/<customer_key>/webhooks/<int(max=9223372036854775807):endpoint_id>"
HIGHEST_ID = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Filled:
    """What the form about an endpoint holds, and what is wrong with it."""

    url: str
    events: Sequence[str]
    url_errors: Sequence[str] = ()
    events_errors: Sequence[str] = ()

    @classmethod
    def sent(cls) -> "Filled":
        return cls(request.form.get("url", "").strip(), request.form.getlist("events"))

    def refused(self, error: MeteringError) -> "Filled":
        """The address is at fault, unless the types of events are."""
        if isinstance(error, InvalidUsage):
            return replace(self, events_errors=[error.message])
        return replace(self, url_errors=[error.message])


@blueprint.route("/c/<customer_key>/webhooks", methods=["GET", "POST"], endpoint="alerts_webhooks")
@customer_page
def webhooks(access: Access) -> ResponseReturnValue:
    if request.method == "GET":
        return _list(access, Filled("", EVENTS))
    require_alert_manager(access)
    form = Filled.sent()
    loopback = current_metering().settings.webhooks_to_loopback
    try:
        with changing(access) as change:
            made = create_endpoint(
                change.session, change.customer, url=form.url, events=form.events, now=change.now, loopback=loopback
            )
            change.note("webhook_endpoint.create", change.customer, endpoint=made.id, url=form.url, events=made.events)
            endpoint_id, secret = made.id, made.secret
    except (BadDestination, Conflict, InvalidUsage) as error:
        return _list(access, form.refused(error)), 422
    return _one(access, endpoint_id, secret=secret)


@blueprint.get(ENDPOINT, endpoint="alerts_webhook")
@customer_page
def webhook(access: Access, endpoint_id: int) -> ResponseReturnValue:
    return _one(access, endpoint_id)


@blueprint.post(ENDPOINT, endpoint="alerts_change_webhook")
@customer_page
def change_webhook(access: Access, endpoint_id: int) -> ResponseReturnValue:
    """What waits to be sent goes to the new address, with the same secret."""
    require_alert_manager(access)
    form = Filled.sent()
    loopback = current_metering().settings.webhooks_to_loopback
    try:
        with changing(access) as change:
            endpoint = find_endpoint(change.session, access.customer_id, endpoint_id, lock=True)
            change_endpoint(endpoint, url=form.url, events=form.events, loopback=loopback)
            change.note(
                "webhook_endpoint.change", change.customer, endpoint=endpoint_id, url=form.url, events=endpoint.events
            )
    except (BadDestination, InvalidUsage) as error:
        return _one(access, endpoint_id, form=form.refused(error)), 422
    flash("The endpoint is changed. What is sent from now on goes by it.", "success")
    return _back(access, endpoint_id)


@blueprint.post(f"{ENDPOINT}/ping", endpoint="ping_webhook")
@customer_page
def ping_webhook(access: Access, endpoint_id: int) -> ResponseReturnValue:
    require_alert_manager(access)
    with changing(access) as change:
        endpoint = find_endpoint(change.session, access.customer_id, endpoint_id, lock=True)
        if endpoint.enabled:
            deliveries.ping(change.session, endpoint, now=change.now)
            change.note("webhook_endpoint.ping", change.customer, endpoint=endpoint_id)
    if endpoint.enabled:
        flash("A test message is on its way. Load this page again to see what was answered.", "success")
    else:
        flash("Switch the endpoint on first.", "error")
    return _back(access, endpoint_id)


@blueprint.post(f"{ENDPOINT}/rotate", endpoint="rotate_webhook")
@customer_page
def rotate_webhook(access: Access, endpoint_id: int) -> ResponseReturnValue:
    require_alert_manager(access)
    with changing(access) as change:
        endpoint = find_endpoint(change.session, access.customer_id, endpoint_id, lock=True)
        secret = rotate(endpoint, now=change.now)
        change.note("webhook_endpoint.rotate", change.customer, endpoint=endpoint_id)
    return _one(access, endpoint_id, secret=secret)


@blueprint.post(f"{ENDPOINT}/state", endpoint="switch_webhook")
@customer_page
def switch_webhook(access: Access, endpoint_id: int) -> ResponseReturnValue:
    require_alert_manager(access)
    wanted = request.form.get("on") == "yes"
    with changing(access) as change:
        endpoint = find_endpoint(change.session, access.customer_id, endpoint_id, lock=True)
        if wanted:
            switch_on(endpoint)
        else:
            switch_off(change.session, endpoint)
        change.note("webhook_endpoint.switch", change.customer, endpoint=endpoint_id, on=wanted)
    flash("The endpoint is switched on." if wanted else "The endpoint is switched off.", "success")
    return _back(access, endpoint_id)


@blueprint.post(f"{ENDPOINT}/remove", endpoint="remove_webhook")
@customer_page
def remove_webhook(access: Access, endpoint_id: int) -> ResponseReturnValue:
    require_alert_manager(access)
    with changing(access) as change:
        endpoint = find_endpoint(change.session, access.customer_id, endpoint_id, lock=True)
        change.note("webhook_endpoint.remove", change.customer, endpoint=endpoint_id, url=endpoint.url)
        change.session.delete(endpoint)
    flash("The endpoint is removed, with its log.", "success")
    return redirect(url_for("dashboard.alerts_webhooks", customer_key=access.customer_key), 303)


@blueprint.post(f"{ENDPOINT}/deliveries/<int(max=9223372036854775807):delivery_id>/replay", endpoint="replay_delivery")
@customer_page
def replay_delivery(access: Access, endpoint_id: int, delivery_id: int) -> ResponseReturnValue:
    require_alert_manager(access)
    with changing(access) as change:
        endpoint = find_endpoint(change.session, access.customer_id, endpoint_id, lock=True)
        query = select(WebhookDelivery).where(
            WebhookDelivery.id == delivery_id, WebhookDelivery.endpoint_id == endpoint.id
        )
        delivery = change.session.scalars(query.with_for_update()).one_or_none()
        if delivery is None:
            raise NotFound("there is no such delivery")
        if endpoint.enabled:
            deliveries.replay(delivery, now=change.now)
            change.note("webhook_delivery.replay", change.customer, delivery=delivery.message_id)
    if endpoint.enabled:
        flash("It is sent again, under the same id.", "success")
    else:
        flash("Switch the endpoint on first.", "error")
    return _back(access, endpoint_id)


def _list(access: Access, form: Filled) -> str:
    now = current_metering().runtime.clock()
    return render_template(
        "dashboard/webhooks.html",
        customer_key=access.customer_key,
        endpoints=[webhook_views.endpoint_view(one, now) for one in endpoints_of(_session(access), access.customer_id)],
        types=EVENTS,
        form=form,
        may_manage=access.may_manage_alerts,
        shell=presenters.shell(access),
    )


def _one(access: Access, endpoint_id: int, *, secret: str | None = None, form: Filled | None = None) -> str:
    session, now = _session(access), current_metering().runtime.clock()
    endpoint = find_endpoint(session, access.customer_id, endpoint_id)
    session.refresh(endpoint)
    log = read_log(session, endpoint, now=now, before=_place("before"), after=_place("after"))
    here = partial(
        url_for, "dashboard.alerts_webhook", customer_key=access.customer_key, endpoint_id=endpoint_id, _anchor="log"
    )
    return render_template(
        "dashboard/webhook.html",
        customer_key=access.customer_key,
        endpoint=webhook_views.endpoint_view(endpoint, now),
        secret=secret,
        log=log.deliveries,
        newer_url=here(after=log.newer_than) if log.newer_than else None,
        older_url=here(before=log.older_than) if log.older_than else None,
        types=EVENTS,
        form=form or Filled(endpoint.url, endpoint.events),
        may_manage=access.may_manage_alerts,
        shell=presenters.shell(access),
    )


def _place(name: str) -> int | None:
    """The delivery that a page of the log begins behind; None for what can't be one."""
    place = request.args.get(name, type=int)
    return place if place is not None and 0 <= place <= HIGHEST_ID else None


def _session(access: Access) -> Session:
    """Raises IntakeUnavailable while PostgreSQL is away."""
    if access.remembered:
        raise IntakeUnavailable("the database does not answer")
    return db.session()


def _back(access: Access, endpoint_id: int) -> ResponseReturnValue:
    return redirect(url_for("dashboard.alerts_webhook", customer_key=access.customer_key, endpoint_id=endpoint_id), 303)
