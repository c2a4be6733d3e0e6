"""A customer's webhooks out: its endpoints, their secrets, and the log of what was delivered. All of the customer's
people see them; owners and admins change them. A secret stands in the very answer that made it, and nowhere else.
"""

from collections import defaultdict
from collections.abc import Sequence

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.dashboard import presenters, webhook_views
from metering.dashboard.access import Access, current_metering, customer_page, require_alert_manager
from metering.dashboard.changing import changing
from metering.dashboard.overview import blueprint
from metering.errors import Conflict, IntakeUnavailable, InvalidUsage, NotFound
from metering.extensions import db
from metering.models import WebhookDelivery, WebhookEndpoint, WebhookTry
from metering.notify import deliveries
from metering.notify.destination import BadDestination
from metering.notify.endpoints import (
    EVENTS,
    create_endpoint,
    endpoints_of,
    find_endpoint,
    rotate,
    switch_off,
    switch_on,
)

__all__ = ["blueprint"]

ENDPOINT = "/c/<customer_key>/webhooks/<int(max=9223372036854775807):endpoint_id>"
SHOWN = 50


@blueprint.route("/c/<customer_key>/webhooks", methods=["GET", "POST"], endpoint="alerts_webhooks")
@customer_page
def webhooks(access: Access) -> ResponseReturnValue:
    if request.method == "GET":
        return _list(access, url="", events=EVENTS)
    require_alert_manager(access)
    url, events = request.form.get("url", "").strip(), request.form.getlist("events")
    loopback = current_metering().settings.webhooks_to_loopback
    try:
        with changing(access) as change:
            made = create_endpoint(
                change.session, change.customer, url=url, events=events, now=change.now, loopback=loopback
            )
            change.note("webhook_endpoint.create", change.customer, endpoint=made.id, url=url, events=made.events)
            endpoint_id, secret = made.id, made.secret
    except (BadDestination, Conflict) as error:
        return _list(access, url=url, events=events, url_fault=error.message), 422
    except InvalidUsage as error:
        return _list(access, url=url, events=events, events_fault=error.message), 422
    return _one(access, endpoint_id, secret=secret)


@blueprint.get(ENDPOINT, endpoint="alerts_webhook")
@customer_page
def webhook(access: Access, endpoint_id: int) -> ResponseReturnValue:
    return _one(access, endpoint_id)


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


def _list(
    access: Access, *, url: str, events: Sequence[str], url_fault: str | None = None, events_fault: str | None = None
) -> str:
    now = current_metering().runtime.clock()
    return render_template(
        "dashboard/webhooks.html",
        customer_key=access.customer_key,
        endpoints=[webhook_views.endpoint_view(one, now) for one in endpoints_of(_session(access), access.customer_id)],
        types=EVENTS,
        url=url,
        events=events,
        url_errors=[url_fault] if url_fault else [],
        events_errors=[events_fault] if events_fault else [],
        may_manage=access.may_manage_alerts,
        shell=presenters.shell(access),
    )


def _one(access: Access, endpoint_id: int, *, secret: str | None = None) -> str:
    session, now = _session(access), current_metering().runtime.clock()
    endpoint = find_endpoint(session, access.customer_id, endpoint_id)
    session.refresh(endpoint)
    return render_template(
        "dashboard/webhook.html",
        customer_key=access.customer_key,
        endpoint=webhook_views.endpoint_view(endpoint, now),
        secret=secret,
        log=_log(session, endpoint),
        may_manage=access.may_manage_alerts,
        shell=presenters.shell(access),
    )


def _log(session: Session, endpoint: WebhookEndpoint) -> list[webhook_views.DeliveryView]:
    """The newest deliveries, each with its tries, newest first."""
    query = select(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint.id)
    rows = session.scalars(query.order_by(WebhookDelivery.id.desc()).limit(SHOWN)).all()
    tries: defaultdict[int, list[WebhookTry]] = defaultdict(list)
    ids = [row.id for row in rows]
    for one in session.scalars(
        select(WebhookTry).where(WebhookTry.delivery_id.in_(ids)).order_by(WebhookTry.id.desc())
    ):
        tries[one.delivery_id].append(one)
    now = current_metering().runtime.clock()
    return [webhook_views.delivery_view(row, tries[row.id], now) for row in rows]


def _session(access: Access) -> Session:
    """Raises IntakeUnavailable while PostgreSQL is away."""
    if access.remembered:
        raise IntakeUnavailable("the database does not answer")
    return db.session()


def _back(access: Access, endpoint_id: int) -> ResponseReturnValue:
    return redirect(url_for("dashboard.alerts_webhook", customer_key=access.customer_key, endpoint_id=endpoint_id), 303)
