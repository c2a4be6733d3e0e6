"""The events of a customer, newest first, and the way of each: from its arrival to the invoice and to Stripe."""

from datetime import date, datetime, time, timedelta
from urllib.parse import urlencode

from flask import render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select
from werkzeug.datastructures import MultiDict

from metering.billing.rhythm import zone
from metering.dashboard import events_views, presenters
from metering.dashboard.access import Access, current_metering, customer_page
from metering.dashboard.overview import blueprint
from metering.errors import IntakeUnavailable, InvalidQuery, NotFound
from metering.extensions import db
from metering.models import ApiKey, Customer
from metering.store.event_list import EventFilter, EventPage, list_events
from metering.stripe_sync.event_path import path_of

__all__ = ["blueprint"]

SHOWN = 50
DAY = timedelta(days=1)
NARROWED = ("key", "property", "flag")
LOOKED_BACK = 30 * DAY
"""Filters that few events pass are looked at event by event: without a day to begin with, for so long."""

FLAGS = {"late": "late", "overshoot": "overshoot", "voided": "voided"}


@blueprint.get("/c/<customer_key>/events")
@customer_page
def events(access: Access) -> ResponseReturnValue:
    catalog, where = current_metering().runtime.catalog, zone(access.timezone)
    keys = _keys(access)
    page, fault = EventPage((), None), None
    try:
        page = list_events(db.session(), _filter(access, request.args), limit=SHOWN, cursor=request.args.get("after"))
    except InvalidQuery as error:
        fault = error.message
    asked = {name: value for name, value in request.args.items() if name != "after" and value}
    html = render_template(
        "dashboard/events.html",
        customer_key=access.customer_key,
        rows=[events_views.event_row(catalog, one, keys, where) for one in page.events],
        meters=tuple(catalog.meters.values()),
        keys=keys,
        asked=request.args,
        recent_only=_is_recent_only(request.args),
        filtered=bool(asked),
        fault=fault,
        newest_url=_address(access, asked) if request.args.get("after") else None,
        older_url=_address(access, {**asked, "after": page.next_cursor}) if page.next_cursor else None,
        shell=presenters.shell(access),
    )
    return html, 400 if fault else 200


@blueprint.get("/c/<customer_key>/events/<event_id>")
@customer_page
def events_one(access: Access, event_id: str) -> ResponseReturnValue:
    keys, runtime = _keys(access), current_metering().runtime
    customer = db.session().get_one(Customer, access.customer_id)
    path = path_of(
        db.session(),
        event_id,
        customer=customer,
        settle_seconds=runtime.settings.settle_delay_seconds,
        now=runtime.clock(),
    )
    if path is None:
        raise NotFound("there is no such event")
    plan = presenters.plan_name(runtime.catalog, path.plan)
    return render_template(
        "dashboard/event.html",
        customer_key=access.customer_key,
        view=events_views.event_view(runtime.catalog, path, keys, zone(access.timezone), plan),
        shell=presenters.shell(access),
    )


def _address(access: Access, query: dict[str, str]) -> str:
    address = url_for("dashboard.events", customer_key=access.customer_key)
    return f"{address}?{urlencode(query)}" if query else address


def _keys(access: Access) -> dict[int, str]:
    """The names of a customer's API keys. Raises IntakeUnavailable while PostgreSQL is away."""
    if access.remembered:
        raise IntakeUnavailable("the database does not answer")
    rows = db.session.execute(select(ApiKey.id, ApiKey.name).where(ApiKey.customer_id == access.customer_id))
    return {row.id: row.name for row in rows}


def _filter(access: Access, asked: MultiDict[str, str]) -> EventFilter:
    """Raises InvalidQuery."""
    first, last = _day(asked, "from"), _day(asked, "to")
    if first and last and first > last:
        raise InvalidQuery("The range must end after it begins.", field="to")
    where = zone(access.timezone)
    flag = asked.get("flag", "")
    if flag and flag not in FLAGS:
        raise InvalidQuery("There is no such mark.", field="flag")
    return EventFilter(
        customers=[access.customer_key],
        meters=[asked["meter"]] if asked.get("meter") else None,
        key_id=_key_id(asked.get("key", "")),
        from_=datetime.combine(first, time(), where) if first else _earliest(asked),
        to=datetime.combine(last + DAY, time(), where) if last else None,
        properties=_property(asked.get("property", "")),
        **{FLAGS[flag]: True} if flag else {},  # type: ignore[arg-type]
    )


def _is_recent_only(asked: MultiDict[str, str]) -> bool:
    return not asked.get("from") and any(asked.get(name) for name in NARROWED)


def _earliest(asked: MultiDict[str, str]) -> datetime | None:
    return current_metering().runtime.clock() - LOOKED_BACK if _is_recent_only(asked) else None


def _day(asked: MultiDict[str, str], name: str) -> date | None:
    if not (text := asked.get(name)):
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise InvalidQuery("A day looks like 2026-11-30.", field=name) from None
    if not date(1971, 1, 1) <= day <= date(2199, 1, 1):
        raise InvalidQuery("That day is too far away.", field=name)
    return day


def _key_id(text: str) -> int | None:
    if not text:
        return None
    if not text.isdecimal() or len(text) > 18:
        raise InvalidQuery("There is no such API key.", field="key")
    return int(text)


def _property(text: str) -> dict[str, str]:
    """ "path=/v1/chat" as a filter."""
    if not text.strip():
        return {}
    name, is_there, value = text.partition("=")
    if not is_there or not name.strip():
        raise InvalidQuery("A property is given as name=value, such as path=/v1/chat.", field="property")
    return {name.strip(): value.strip()}
