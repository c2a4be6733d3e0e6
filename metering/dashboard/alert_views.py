"""What the page about alerts shows. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from metering import humanize, quantities
from metering.catalog import Catalog, Meter
from metering.dashboard.access import Access
from metering.dashboard.threshold_form import ALL, BILL
from metering.limits.fired import Fired, Told
from metering.limits.thresholds import Threshold
from metering.models import Alert

THE_BILL = "The bill"
CHANNELS = {"mail": "email", "webhook": "webhook"}
ICONS = {"mail": "mail", "webhook": "webhook"}
TONES = {"delivered": "ok", "waiting": "neutral", "failed": "danger"}


@dataclass(frozen=True, slots=True)
class ThresholdView:
    """`of`, `kind` and `value` name it in the form that removes it; `exact` says all of its digits."""

    of: str
    kind: str
    value: str
    text: str
    exact: str


@dataclass(frozen=True, slots=True)
class ThresholdGroup:
    """The thresholds of one meter, of all, or of the bill. `note`: what is to be known of them."""

    of: str
    name: str
    thresholds: tuple[ThresholdView, ...]
    note: str | None = None


def threshold_choices(catalog: Catalog) -> tuple[tuple[str, str], ...]:
    """What the form offers to have a threshold of: (value, label) pairs."""
    meters = ((meter.key, meter.name) for meter in catalog.meters.values() if meter.counts_live)
    return ((ALL, "All meters"), *meters, (BILL, THE_BILL))


def threshold_groups(catalog: Catalog, access: Access, own: Sequence[Threshold]) -> list[ThresholdGroup]:
    """Those for all meters and of the bill always, and of each meter that has some."""
    for_all = tuple(
        ThresholdView(ALL, "percent", str(percent), f"{percent}%", f"{percent}% of each limit")
        for percent in access.alert_percents
    )
    keys = {one.meter for one in own if one.meter is not None}
    known = [key for key in catalog.meters if key in keys]
    return [
        ThresholdGroup(ALL, "All meters", for_all, None if for_all else "None: only those below alert."),
        *(_group(catalog, access, key, own) for key in [*known, *sorted(keys - set(known))]),
        ThresholdGroup(
            BILL, THE_BILL, tuple(_of_bill(catalog, one) for one in own if one.meter is None), "Base fee included."
        ),
    ]


def _group(catalog: Catalog, access: Access, key: str, own: Iterable[Threshold]) -> ThresholdGroup:
    mine = [one for one in own if one.meter == key]
    meter = catalog.meters.get(key)
    if meter is None:
        views = (ThresholdView(key, one.kind, _raw(one.value), humanize.exact(one.value), key) for one in mine)
        return ThresholdGroup(key, key, tuple(views), "It is measured no more.")
    limit = catalog.limit_units(access.plan, meter)[0] if access.plan in catalog.plans else None
    note = None
    if not limit and any(one.kind == "percent" for one in mine):
        note = "There is no limit on this plan: a percent never alerts."
    return ThresholdGroup(key, meter.name, tuple(_of_meter(meter, limit, one) for one in mine), note)


def _of_meter(meter: Meter, limit: int | None, one: Threshold) -> ThresholdView:
    if one.kind == "quantity":
        text, exact = quantities.in_words(meter, one.value), quantities.exact(meter, one.value)
    else:
        text = exact = f"{humanize.exact(one.value)}%"
        if limit:
            exact = f"{text} of {quantities.in_words(meter, meter.to_quantity(limit))}"
    return ThresholdView(meter.key, one.kind, _raw(one.value), text, exact)


def _of_bill(catalog: Catalog, one: Threshold) -> ThresholdView:
    text = humanize.money(one.value, catalog.currency)
    return ThresholdView(BILL, one.kind, _raw(one.value), text, text)


def _raw(value: Decimal) -> str:
    return f"{value:f}"


@dataclass(frozen=True, slots=True)
class ToldView:
    """What went over a channel: "2 e-mails sent"."""

    icon: str
    text: str
    tone: str


@dataclass(frozen=True, slots=True)
class FiredView:
    """An alert that fired: what it is of, at which threshold (`tone` of its badge), and what had been reached."""

    id: int
    of: str
    threshold: str
    tone: str
    reached: str
    at: datetime
    at_text: str
    dismissed: bool
    told: tuple[ToldView, ...]


def fired(
    rows: Sequence[Fired], told: Mapping[int, Sequence[Told]], catalog: Catalog, now: datetime
) -> list[FiredView]:
    """Those of meters that are sold no more are left out."""
    return [
        FiredView(
            id=row.alert.id,
            of=THE_BILL if meter is None else meter.name,
            threshold=_threshold(row.alert, meter),
            tone="danger" if row.alert.kind == "percent" and row.alert.value >= 100 else "warn",
            reached=_reached(row.alert, meter),
            at=row.alert.crossed_at,
            at_text=humanize.relative(row.alert.crossed_at, now),
            dismissed=row.alert.dismissed_at is not None,
            told=tuple(_told(one) for one in told.get(row.alert.id, ())),
        )
        for row in rows
        if (meter := catalog.meters.get(row.meter.key) if row.meter else None) is not None or row.meter is None
    ]


def _threshold(alert: Alert, meter: Meter | None) -> str:
    if meter is None:
        return humanize.money(alert.value, alert.currency or "")
    return quantities.in_words(meter, alert.value) if alert.kind == "quantity" else f"{humanize.exact(alert.value)}%"


def _reached(alert: Alert, meter: Meter | None) -> str:
    if meter is None:
        return humanize.money(alert.total or Decimal(0), alert.currency or "")
    used = meter.to_quantity(alert.units or 0)
    if alert.limit_units is None:
        return quantities.in_words(meter, used)
    return f"{quantities.bare(meter, used)} of {quantities.in_words(meter, meter.to_quantity(alert.limit_units))}"


def _told(one: Told) -> ToldView:
    outcome = "sent" if (one.channel, one.outcome) == ("mail", "delivered") else one.outcome
    text = f"{humanize.plural(one.messages, CHANNELS[one.channel])} {outcome}"
    return ToldView(ICONS[one.channel], text, TONES[one.outcome])
