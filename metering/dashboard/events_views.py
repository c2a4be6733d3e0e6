"""What the pages about events show. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from metering import humanize, quantities
from metering.catalog import Catalog
from metering.dashboard.view_models import icon_for
from metering.store.event_list import StoredEvent
from metering.stripe_sync.event_path import EventPath, Reported

HOUR = timedelta(hours=1)
OPERATOR = "An operator’s"
OPS = {
    "add": "Added to the period’s total",
    "change": "Changed the level",
    "set": "Set the level outright",
    "observe": "Was observed",
}
WHY_NOT = {
    "not_linked": "This meter is not reported to Stripe.",
    "no_customer": "Nothing is reported: there is no customer at Stripe yet.",
    "not_subscribed": "Nothing is owed: no subscription ran then.",
    "open_hour": "Its hour is reported as a whole, once it is closed.",
    "waits": "It waits to be reported, or comes to less than one whole unit.",
}
STATES = {
    "pending": ("accent", "Waits to be sent"),
    "cancelling": ("accent", "Is being taken back"),
    "doubtful": ("warn", "Is looked up at Stripe"),
    "accepted": ("ok", "Accepted"),
    "observed": ("neutral", "Seen at Stripe"),
    "parked": ("danger", "Refused: an operator decides"),
    "written_off": ("neutral", "Written off"),
    "withdrawn": ("neutral", "Taken back"),
}


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event in the list. `flags` are pairs of tone and text."""

    id: str
    at: datetime
    at_text: str
    meter: str
    icon: str
    quantity: str
    quantity_exact: str
    what: str
    key: str
    flags: tuple[tuple[str, str], ...]
    voided: bool


@dataclass(frozen=True, slots=True)
class Detail:
    label: str
    value: str
    code: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """A stop on an event's way. `state`: done, waits, or bad."""

    title: str
    text: str
    state: str = "done"
    at: datetime | None = None
    at_text: str = ""
    details: tuple[Detail, ...] = ()
    badges: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class EventView:
    """One event and its way. `corrected` and `corrects` are ids of other events."""

    row: EventRow
    steps: tuple[Step, ...]
    properties: tuple[Detail, ...]
    corrected: str | None
    corrected_text: str
    corrects: str | None
    invoice_id: int | None


def moment(at: datetime, where: ZoneInfo) -> str:
    local = at.astimezone(where)
    return f"{local:%b} {local.day}, {local.year}, {local:%H:%M:%S}"


def event_row(catalog: Catalog, event: StoredEvent, keys: Mapping[int, str], where: ZoneInfo) -> EventRow:
    meter, path = catalog.meters.get(event.meter), event.properties.get("path")
    return EventRow(
        id=event.digest,
        at=event.time,
        at_text=moment(event.time, where),
        meter=meter.name if meter else event.meter,
        icon=icon_for(event.meter),
        quantity=_quantity(catalog, event, event.quantity),
        quantity_exact=quantities.exact(meter, event.quantity) if meter else str(event.quantity),
        what=path if isinstance(path, str) else event.source,
        key="" if event.key_id is None else keys.get(event.key_id, OPERATOR),
        flags=tuple(_flags(event)),
        voided=event.voided_at is not None,
    )


def _quantity(catalog: Catalog, event: StoredEvent, quantity: Decimal) -> str:
    meter = catalog.meters.get(event.meter)
    text = quantities.in_words(meter, quantity) if meter else f"{quantity:f}"
    return f"+{text}" if event.op == "change" and quantity > 0 else text


def _flags(event: StoredEvent) -> list[tuple[str, str]]:
    found = []
    if event.voided_at is not None:
        found.append(("neutral", "Corrected" if event.corrected else "Voided"))
    if event.corrects:
        found.append(("accent", "Correction"))
    if event.late:
        found.append(("warn", "Late"))
    if event.overshoot:
        found.append(("danger", "Past the limit"))
    return found


def event_view(
    catalog: Catalog, path: EventPath, keys: Mapping[int, str], where: ZoneInfo, plan_name: str
) -> EventView:
    event = path.event
    counts = None if event.corrected is None else event.corrected.counts
    return EventView(
        row=event_row(catalog, event, keys, where),
        steps=(
            _received(path, where),
            _counted(catalog, path, where),
            _rolled_up(catalog, path, where),
            _billed(path, where, plan_name),
            _told_stripe(path, where),
        ),
        properties=tuple(Detail(name, _property(value), code=True) for name, value in event.properties.items()),
        corrected=event.corrected.digest if event.corrected else None,
        corrected_text="" if counts is None else _quantity(catalog, event, counts),
        corrects=event.corrects,
        invoice_id=path.invoice.id if path.invoice else None,
    )


def _property(value: object) -> str:
    return value if isinstance(value, str) else "null" if value is None else str(value)


def _received(path: EventPath, where: ZoneInfo) -> Step:
    event = path.event
    details = [Detail("Source", event.source, code=True), Detail("Id", event.id, code=True)]
    if path.key:
        details.append(Detail("API key", f"{path.key.name} ({path.key.prefix}…)"))
    return Step(
        "Received",
        "Durable since",
        at=event.recorded_at,
        at_text=moment(event.recorded_at, where),
        details=tuple(details),
    )


def _counted(catalog: Catalog, path: EventPath, where: ZoneInfo) -> Step:
    event = path.event
    span = humanize.period(event.period_starts_at, event.period_ends_at, where)
    badges = tuple(_flags(event))
    details = (
        Detail("Quantity", _quantity(catalog, event, event.quantity)),
        Detail("Happened", moment(event.time, where)),
        Detail("Period", span),
    )
    if event.voided_at is not None:
        return Step(
            "Taken back", "It counts no more.", "bad", event.voided_at, moment(event.voided_at, where), details, badges
        )
    return Step("Counted", f"{OPS[event.op]}.", details=details, badges=badges)


def _rolled_up(catalog: Catalog, path: EventPath, where: ZoneInfo) -> Step:
    event, local = path.event, path.hour.astimezone(where)
    meter = catalog.meters.get(event.meter)
    hour = f"{humanize.short_day(path.hour, where)}, {local:%H:%M} – {(local + HOUR):%H:%M}"
    if meter is not None and meter.is_level:
        if path.accrued is None:
            return Step("Accrues by the hour", "Its hour is not closed yet.", "waits", details=(Detail("Hour", hour),))
        price = catalog.price(path.plan, meter.key)
        charged = "—" if price is None else quantities.charged(path.accrued.scaleb(-meter.scale) / price.size)
        unit = "" if price is None else f" {price.unit}"
        return Step(
            "Accrued",
            "The level of this hour costs:",
            details=(Detail("Hour", hour), Detail("Accrued", charged + unit)),
        )
    if path.quantity is None or meter is None:
        return Step(
            "In no hour", "Nothing of this hour and group counts any more.", "bad", details=(Detail("Hour", hour),)
        )
    group = ", ".join(f"{name} {value}" for name, value in event.group.items() if value) or "not grouped"
    events = humanize.plural(path.events or 0, "event")
    return Step(
        "In the hour’s total",
        "Charts, limits and bills read totals like this one.",
        details=(
            Detail("Hour", hour),
            Detail("Group", group),
            Detail("Its total", f"{quantities.exact(meter, path.quantity)} in {events}"),
        ),
    )


def _billed(path: EventPath, where: ZoneInfo, plan_name: str) -> Step:
    event = path.event
    if path.invoice:
        return Step(
            "Invoiced",
            "",
            details=(Detail("Invoice", path.invoice.number or "—"), Detail("Status", path.invoice.status.capitalize())),
        )
    ends = moment(event.period_ends_at, where)
    return Step(f"On the bill of the {plan_name} plan", f"Its period ends on {ends}.", "waits")


def _told_stripe(path: EventPath, where: ZoneInfo) -> Step:
    if not path.reports:
        reason = path.unreported or "waits"
        due = f" That is after {moment(path.due_at, where)}." if reason == "open_hour" else ""
        return Step("Reported to Stripe", WHY_NOT[reason] + due, "waits")
    last = path.reports[-1]
    return Step(
        "Reported to Stripe",
        "With the rest of its hour.",
        "bad" if last.state == "parked" else "done" if last.state in ("accepted", "observed") else "waits",
        last.at,
        moment(last.at, where),
        details=tuple(detail for one in path.reports for detail in _report(one)),
        badges=(STATES[last.state],),
    )


def _report(one: Reported) -> Sequence[Detail]:
    found = [Detail("Row", f"{one.identifier}: {one.value}, {STATES[one.state][1].lower()}", code=True)]
    return [*found, Detail("Reason", one.fault)] if one.fault else found
