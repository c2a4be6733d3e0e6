"""The history of a customer's usage: as a chart, as a table, as CSV. The choice stands in the address."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from flask import Response, render_template, request
from flask.typing import ResponseReturnValue
from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.billing.rhythm import zone
from metering.clock import MICROSECOND
from metering.csv_table import csv_table
from metering.dashboard import presenters, usage_views
from metering.dashboard.access import Access, current_metering, customer_page
from metering.dashboard.figures import stored_period
from metering.dashboard.overview import blueprint
from metering.dashboard.usage_choice import MOST_WINDOWS, Choice, choice_of, span_before, span_of
from metering.dashboard.usage_views import History, Series
from metering.errors import IntakeUnavailable, InvalidQuery
from metering.extensions import db
from metering.intake.values import Span
from metering.models import ApiKey, Customer, Period
from metering.store.usage_query import KEY_ID, UsageQuery, UsageRow, query_usage
from metering.store.windows import edges

__all__ = ["blueprint"]

BEFORE = "Before"


@dataclass(frozen=True, slots=True)
class Shown:
    """What a choice comes to: the rows that were found, in the windows that start at `starts`."""

    choice: Choice
    starts: Sequence[datetime]
    rows: Sequence[UsageRow]
    before: Series | None
    where: ZoneInfo


@blueprint.get("/c/<customer_key>/usage")
@customer_page
def usage(access: Access) -> ResponseReturnValue:
    catalog = current_metering().runtime.catalog
    fault, history, status = None, None, 200
    choice = Choice(next(iter(catalog.meters.values())))
    try:
        choice = choice_of(request.args, catalog)
        history = _history(access, _look(access, choice))
    except InvalidQuery as error:
        fault, status = error.message, 400
    page = render_template(
        "dashboard/usage.html",
        choice=choice,
        asked=request.args,
        meters=tuple(catalog.meters.values()),
        groups=[(group, usage_views.group_label(group)) for group in choice.groups],
        history=history,
        fault=fault,
        csv_query=urlencode(request.args.to_dict()),
        shell=presenters.shell(access),
        customer_key=access.customer_key,
    )
    return page, status


@blueprint.get("/c/<customer_key>/usage.csv")
@customer_page
def usage_csv(access: Access) -> ResponseReturnValue:
    """Every group in every window that has usage, exactly. Raises InvalidQuery."""
    choice = choice_of(request.args, current_metering().runtime.catalog)
    shown = _look(access, choice)
    names = _names(access, choice)
    group = [choice.group] if choice.group else []
    table = csv_table(
        ["window_start", "window_end", *group, "value", "unit"],
        (
            [
                row.window_start.astimezone(shown.where).isoformat(),
                row.window_end.astimezone(shown.where).isoformat(),
                *(names.get(row.group_by[name] or "", row.group_by[name] or "") for name in group),
                format(row.value, "f"),
                choice.meter.unit,
            ]
            for row in shown.rows
        ),
    )
    name = f"usage-{access.customer_key}-{choice.meter.key}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(table, content_type="text/csv; charset=utf-8", headers=headers)


def _look(access: Access, choice: Choice) -> Shown:
    """Raises InvalidQuery; IntakeUnavailable while PostgreSQL is away."""
    if access.remembered:
        raise IntakeUnavailable("the database does not answer")
    session, now, where = db.session(), current_metering().runtime.clock(), zone(access.timezone)
    customer = session.get_one(Customer, access.customer_id)
    period = stored_period(session, customer, now)
    span = span_of(choice, _span(period), where, now + MICROSECOND)  # what happens at this very instant is shown
    starts, rows = _read(session, access, choice, span, where, now)
    before = None
    if choice.compare and not choice.group:
        earlier = span_before(choice, span, _before(session, period), where)
        if earlier is not None:
            then, found = _read(session, access, choice, earlier, where, now)
            before = _aligned(choice, found, then, len(starts))
    return Shown(choice, starts, rows, before, where)


def _read(
    session: Session, access: Access, choice: Choice, span: tuple[datetime, datetime], where: ZoneInfo, now: datetime
) -> tuple[Sequence[datetime], Sequence[UsageRow]]:
    *starts, _ = edges(*span, choice.window, where)
    if len(starts) > MOST_WINDOWS:
        raise InvalidQuery(
            f"That is {len(starts):,} {choice.window.lower()}s; at most {MOST_WINDOWS} are shown. "
            "Choose a shorter range, or longer windows.",
            field="window",
        )
    query = UsageQuery(
        meter=choice.meter,
        from_=span[0],
        to=span[1],
        window_size=choice.window,
        timezone=where,
        customers=[access.customer_key],
        group_by=[choice.group] if choice.group else [],
    )
    return starts, query_usage(session, query, now=now)


def _aligned(choice: Choice, rows: Sequence[UsageRow], starts: Sequence[datetime], length: int) -> Series:
    """What came before, window by window beside what is shown; what has no counterpart is left out."""
    (series,) = usage_views.series_of(choice.meter, rows, starts, "", {})
    values = (*series.values[:length], *[None] * (length - len(series.values)))
    return replace(series, label=BEFORE, number=0, values=values)


def _history(access: Access, shown: Shown) -> History:
    choice = shown.choice
    series = usage_views.series_of(choice.meter, shown.rows, shown.starts, choice.group, _names(access, choice))
    return usage_views.history(choice, series, shown.before, shown.starts, shown.where)


def _names(access: Access, choice: Choice) -> dict[str, str]:
    """What API keys are called, by their id as a text; nothing for other groups, whose values are names."""
    if choice.group != KEY_ID:
        return {}
    keys = select(ApiKey.id, ApiKey.name).where(ApiKey.customer_id == access.customer_id)
    return {str(row.id): row.name for row in db.session.execute(keys)}


def _span(period: Period) -> Span:
    return Span(period.id, period.starts_at, period.ends_at)


def _before(session: Session, period: Period) -> Span | None:
    earlier = select(Period).where(Period.customer_id == period.customer_id, Period.starts_at < period.starts_at)
    found = session.scalars(earlier.order_by(Period.starts_at.desc()).limit(1)).one_or_none()
    return _span(found) if found else None
