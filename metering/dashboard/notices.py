"""What stands above the cards: outages, and the limits that are near or reached. Pure.

An alert of a percent that holds for all meters is shown as soon as the figures say so, even before the drain has
written it down; the stored alert adds when it was crossed. One of a threshold of the customer's own is shown once it is
stored: one that was passed before it was made says nothing until more is used. One that is not true any more (files
deleted, a larger plan) is not shown.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal, TypedDict

from metering import humanize, quantities
from metering.billing.rhythm import zone
from metering.catalog import Catalog, Meter
from metering.dashboard.access import Access
from metering.dashboard.figures import Figures
from metering.dashboard.view_models import AlertsView, AlertView, OutageView
from metering.limits.fired import Fired
from metering.limits.thresholds import Threshold, percents_that_hold
from metering.models import Alert
from metering.service import MeterUsage


@dataclass(frozen=True, slots=True)
class Written:
    """What PostgreSQL says: the alerts of the period that goes on, and the customer's own thresholds."""

    fired: Sequence[Fired] = ()
    thresholds: Sequence[Threshold] = ()

    def own(self, meter: str, kind: str) -> list[Decimal]:
        """Where the customer's own thresholds of a meter have fired."""
        fired = {alert.value for alert, row in self.fired if row and (row.key, alert.kind) == (meter, kind)}
        return [one.value for one in self.thresholds if (one.meter, one.kind) == (meter, kind) and one.value in fired]

    def alert(self, kind: str, meter: str | None, value: Decimal, limit_units: int | None = None) -> Alert | None:
        """The stored alert of a threshold (of a percent: of this very limit)."""
        wanted = (kind, meter, value, limit_units)
        return next((alert for alert, row in self.fired if _identity(alert, row.key if row else None) == wanted), None)


WHILE_REDIS_IS_AWAY = {
    "deny": "Metered calls are refused until live counting is back, so that no limit is passed. "
    "What was used so far is safe; the cards show what was written down last.",
    "allow": "Calls are still served, and their usage is still recorded; it is counted when live counting is back. "
    "The cards show what was written down last.",
}


NOTHING_REFUSED = "This is a threshold of your own: nothing is refused for it."


def alerts_view(
    access: Access,
    catalog: Catalog,
    figures: Figures,
    written: Written | None,
    *,
    on_outage: Literal["deny", "allow"],
    now: datetime,
) -> AlertsView:
    """`written` is None while PostgreSQL is away."""
    known = written or Written()
    shown = [
        *_of_limits(access, catalog, figures, known, now),
        *_of_money(figures, known, now),
        *_of_quantities(catalog, figures, known, now),
    ]
    return AlertsView(
        access.customer_key, tuple(shown), outage(figures, written, on_outage), may_dismiss=access.may_dismiss_alerts
    )


def _of_limits(
    access: Access, catalog: Catalog, figures: Figures, known: Written, now: datetime
) -> Iterable[AlertView]:
    """Of each meter the highest, the fullest first."""
    found = [
        (percent, one)
        for one in figures.summary.meters
        if (percent := reached(catalog, access.alert_percents, one, known.own(one.meter, "percent"))) is not None
    ]
    for percent, one in sorted(found, key=lambda pair: -pair[0]):
        assert one.limit is not None
        limit_units = catalog.meters[one.meter].to_units(one.limit)
        row = known.alert("percent", one.meter, Decimal(percent), limit_units)
        if row is None or row.dismissed_at is None:
            yield _of_limit(access, catalog, figures, percent, one, row, now)


def _of_money(figures: Figures, known: Written, now: datetime) -> Iterable[AlertView]:
    """The highest amount that the bill has come to, once it is written down: no page has a bill worked out for it."""
    highest = max((row.alert for row in known.fired if row.alert.kind == "money"), key=_value, default=None)
    if highest is not None and highest.dismissed_at is None and highest.currency is not None:
        amount, total = (humanize.money(one or Decimal(0), highest.currency) for one in (highest.value, highest.total))
        yield AlertView(
            id=f"bill-{figures.summary.period.id}-{highest.value.normalize():f}",
            level="warning",
            title=f"The bill of this period has reached {amount}",
            text=f"It had come to {total} then. {NOTHING_REFUSED}",
            at=highest.crossed_at,
            at_text=humanize.relative(highest.crossed_at, now),
            alert_id=highest.id,
        )


def _of_quantities(catalog: Catalog, figures: Figures, known: Written, now: datetime) -> Iterable[AlertView]:
    """Of each meter the highest quantity that was named."""
    for one in figures.summary.meters:
        quantity = max((value for value in known.own(one.meter, "quantity") if one.used >= value), default=None)
        if quantity is None:
            continue
        row = known.alert("quantity", one.meter, quantity)
        if row is None or row.dismissed_at is None:
            words = quantities.in_words(catalog.meters[one.meter], quantity)
            yield AlertView(
                id=f"{one.meter}-{figures.summary.period.id}-{quantity.normalize():f}-used",
                level="warning",
                title=f"{one.name}: {words} reached",
                text=NOTHING_REFUSED,
                meter=one.meter,
                **_stored(row, now),
            )


def reached(catalog: Catalog, percents: Sequence[int], usage: MeterUsage, own: Iterable[Decimal] = ()) -> int | None:
    """The highest threshold in percent that usage is at or beyond."""
    meter: Meter = catalog.meters[usage.meter]
    if usage.limit is None or not meter.counts_live:
        return None
    limit, used = usage.limit, usage.used
    holding = percents_that_hold(meter, meter.to_units(limit), percents, own)
    return max((percent for percent in holding if used * 100 >= limit * percent), default=None)


def outage(figures: Figures, written: Written | None, on_outage: Literal["deny", "allow"]) -> OutageView | None:
    if not figures.live:
        return OutageView("Live figures are unavailable", WHILE_REDIS_IS_AWAY[on_outage])
    if written is None:
        return OutageView(
            "The bill and the record of alerts are unavailable",
            "The cards below are live, and usage is still counted. The rest comes back by itself.",
        )
    return None


def _of_limit(
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
        **_stored(row, now),
    )


class _Stored(TypedDict):
    at: datetime | None
    at_text: str | None
    alert_id: int | None


def _stored(row: Alert | None, now: datetime) -> _Stored:
    """What the stored alert adds."""
    if row is None:
        return {"at": None, "at_text": None, "alert_id": None}
    return {"at": row.crossed_at, "at_text": humanize.relative(row.crossed_at, now), "alert_id": row.id}


def _identity(alert: Alert, meter: str | None) -> tuple[str, str | None, Decimal, int | None]:
    return alert.kind, meter, alert.value, alert.limit_units


def _value(alert: Alert) -> Decimal:
    return alert.value


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
