"""What stands above the cards: outages, and the limits that are near or reached. Pure.

An alert is shown as soon as the figures say so, even before the drain has written it down; the stored alert adds when
it was crossed. One that is not true any more (files deleted, a larger plan) is not shown.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from metering.billing.rhythm import zone
from metering.catalog import Catalog
from metering.dashboard import humanize, quantities
from metering.dashboard.access import Access
from metering.dashboard.figures import Figures
from metering.dashboard.view_models import AlertsView, AlertView, OutageView
from metering.models import Alert
from metering.service import MeterUsage

StoredAlerts = Sequence[tuple[Alert, str]]

WHILE_REDIS_IS_AWAY = {
    "deny": "Metered calls are refused until live counting is back, so that no limit is passed. "
    "What was used so far is safe; the cards show what was written down last.",
    "allow": "Calls are still served, and their usage is still recorded; it is counted when live counting is back. "
    "The cards show what was written down last.",
}


def alerts_view(
    access: Access,
    catalog: Catalog,
    figures: Figures,
    stored: StoredAlerts | None,
    *,
    on_outage: Literal["deny", "allow"],
    now: datetime,
) -> AlertsView:
    """`stored` is None while PostgreSQL is away."""
    rows = {(meter, alert.percent): alert for alert, meter in stored or ()}
    found = [
        (percent, one)
        for one in figures.summary.meters
        if (percent := reached(catalog, access.alert_percents, one)) is not None
    ]
    shown = [
        _alert(access, catalog, figures, percent, one, rows.get((one.meter, percent)), now)
        for percent, one in sorted(found, key=lambda pair: -pair[0])
        if (row := rows.get((one.meter, percent))) is None or row.dismissed_at is None
    ]
    return AlertsView(access.customer_key, tuple(shown), outage(figures, stored, on_outage))


def reached(catalog: Catalog, percents: Sequence[int], usage: MeterUsage) -> int | None:
    """The highest threshold that usage is at or beyond. A limit of nothing is no limit to run into, and the only seat
    of a plan being taken is how it is meant: neither is worth an alert that would stand there for ever.
    """
    meter = catalog.meters[usage.meter]
    if not usage.limit or not meter.counts_live or (meter.is_level and usage.limit == 1):
        return None
    limit, used = usage.limit, usage.used
    return max((percent for percent in percents if used * 100 >= limit * percent), default=None)


def outage(figures: Figures, stored: StoredAlerts | None, on_outage: Literal["deny", "allow"]) -> OutageView | None:
    if not figures.live:
        return OutageView("Live figures are unavailable", WHILE_REDIS_IS_AWAY[on_outage])
    if stored is None:
        return OutageView(
            "The bill and the record of alerts are unavailable",
            "The cards below are live, and usage is still counted. The rest comes back by itself.",
        )
    return None


def _alert(
    access: Access,
    catalog: Catalog,
    figures: Figures,
    percent: int,
    usage: MeterUsage,
    row: Alert | None,
    now: datetime,
) -> AlertView:
    full = percent >= 100
    return AlertView(
        id=f"{usage.meter}-{figures.summary.period.id}-{percent}",
        level="critical" if full else "warning",
        title=f"{usage.name}: {'limit reached' if full else f'{percent}% of the limit used'}",
        text=_consequence(access, catalog, usage, full=full),
        meter=usage.meter,
        at=row.crossed_at if row else None,
        at_text=humanize.relative(row.crossed_at, now) if row else None,
    )


def _consequence(access: Access, catalog: Catalog, usage: MeterUsage, *, full: bool) -> str:
    """What it means. Without running figures: the cards have them, and each change would be a new alert."""
    assert usage.limit is not None
    limit = quantities.in_words(catalog.meters[usage.meter], usage.limit)
    resets = None if usage.resets_at is None else humanize.day(usage.resets_at, zone(access.timezone))
    if not full:
        return f"The limit is {limit}" + (f"; it starts anew on {resets}." if resets else ".")
    if usage.limit_mode == "soft":
        return f"The limit of {limit} is a soft one: usage goes on."
    until = f"until {resets}" if resets else "until some of it is given back"
    return f"The limit is {limit}. More is refused {until}, or until the plan changes."
