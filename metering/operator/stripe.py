"""What Stripe was told: rows by customer, meter and hour, and the decisions on those it refused."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from flask import request, url_for
from flask.typing import ResponseReturnValue

from metering import humanize, quantities
from metering.catalog import Catalog, Meter
from metering.errors import NotFound
from metering.extensions import db
from metering.models import StripeReport
from metering.operator.access import Missing, Operator, note_of, operator_action, operator_page
from metering.operator.pages import PAGE, When, blueprint, chosen, moment_of, page_of, render, when
from metering.stripe_sync import decisions, stops
from metering.stripe_sync.rows import STATES, NamedRow, Place, RowFilter, find_row, list_rows, rows_of_hour
from metering.stripe_sync.standing import stripe_standing, without_stripe_id

SECONDS_OF_AN_HOUR = 3600
ROW = "<int(max=9223372036854775807):report_id>"

TONES = {
    "accepted": "ok",
    "pending": "accent",
    "cancelling": "accent",
    "doubtful": "warn",
    "parked": "danger",
    "written_off": "neutral",
    "withdrawn": "neutral",
    "observed": "neutral",
}


@dataclass(frozen=True, slots=True)
class RowView:
    id: int
    customer: str
    meter: str
    hour: str
    value: str
    """In words; `units` is the number that Stripe is told."""
    units: str
    state: str
    tone: str
    fault: str
    at: When | None
    settled: When | None
    identifier: str
    tries: int
    sent: bool
    """Whether Stripe may have counted it."""


@blueprint.get("/stripe")
@operator_page
def stripe(operator: Operator) -> ResponseReturnValue:
    runtime, session = operator.runtime, db.session()
    wanted = chosen({"customer": "", "meter": "", "state": "", "since": "", "until": ""})
    state = wanted["state"] if wanted["state"] in STATES else None
    filters = RowFilter(
        customer=wanted["customer"] or None,
        meter=wanted["meter"] or None,
        state=state,
        since=moment_of(wanted["since"]),
        until=moment_of(wanted["until"]),
    )
    found = list_rows(session, filters, before=_place(), limit=PAGE + 1)
    now, catalog = runtime.clock(), runtime.catalog
    page = page_of(found, [_row(one, catalog, now) for one in found[:PAGE]], _place_of)
    off = runtime.settings.stripe == "off"
    standing = None if off else stripe_standing(session, runtime)
    return render(
        operator,
        "stripe",
        page=page,
        wanted=wanted,
        states=[("", "Any"), *((one, words(one)) for one in STATES)],
        meters=[("", "Any"), *((meter.key, meter.name) for meter in catalog.meters.values())],
        stopped=standing.stopped if standing else None,
        without=[] if off else without_stripe_id(session, catalog, now),
        doubled=standing.doubled if standing else [],
    )


@blueprint.get(f"/stripe/rows/{ROW}")
@operator_page
def stripe_row(operator: Operator, report_id: int) -> ResponseReturnValue:
    session, now, catalog = db.session(), operator.runtime.clock(), operator.runtime.catalog
    found = find_row(session, report_id)
    if found is None:
        raise NotFound("there is no such row")
    others = [NamedRow(row, found.customer, found.meter, found.unit) for row in rows_of_hour(session, found.row)]
    one = _row(found, catalog, now)
    return render(operator, "stripe_row", one=one, others=[_row(other, catalog, now) for other in others])


def _back(**_: object) -> str:
    return url_for("operator.stripe", state="parked")


@blueprint.post(f"/stripe/rows/{ROW}/retry")
@operator_action(_back)
def retry_row(operator: Operator, report_id: int) -> str:
    with operator.changing() as change:
        decisions.retry(change.session, report_id, now=change.now, actor=operator.actor)
    return f"Row {report_id} waits to be sent."


@blueprint.post(f"/stripe/rows/{ROW}/write-off")
@operator_action(_back)
def write_off_row(operator: Operator, report_id: int) -> str:
    note = note_of()
    with operator.changing() as change:
        decisions.write_off(change.session, report_id, note=note, now=change.now, actor=operator.actor)
    return f"Row {report_id} is written off: Stripe will not be told of it."


@blueprint.post(f"/stripe/rows/{ROW}/settle")
@operator_action(_back)
def settle_row(operator: Operator, report_id: int) -> str:
    note, counted = note_of(), request.form.get("counted")
    if counted not in ("yes", "no"):
        raise Missing("say whether Stripe has counted it")
    with operator.changing() as change:
        decisions.settle(
            change.session, report_id, counted=counted == "yes", note=note, now=change.now, actor=operator.actor
        )
    return f"Row {report_id} is {'accepted' if counted == 'yes' else 'replaced by what its hour owes now'}."


@blueprint.post("/stripe/resume")
@operator_action(lambda **_: url_for("operator.stripe"))
def resume_stripe(operator: Operator) -> str:
    with operator.changing() as change:
        was_stopped = stops.resume(change.session, operator.runtime.settings, now=change.now, actor=operator.actor)
    return "Reporting goes on." if was_stopped else "This key was not stopped."


def words(state: str) -> str:
    return state.replace("_", " ").capitalize()


def _row(found: NamedRow, catalog: Catalog, now: datetime) -> RowView:
    row: StripeReport = found.row
    meter = catalog.meters.get(found.meter)
    return RowView(
        row.id,
        customer=found.customer,
        meter=meter.name if meter else found.meter,
        hour=f"{row.hour.astimezone(UTC):%b %-d, %H:00}",
        value=_in_words(meter, row.value * found.unit),
        units=humanize.exact(row.value),
        state=row.state,
        tone=TONES[row.state],
        fault=row.fault or "",
        at=when(row.created_at, now),
        settled=when(row.settled_at, now),
        identifier=row.identifier,
        tries=row.attempts,
        sent=row.first_sent_at is not None,
    )


def _in_words(meter: Meter | None, units: Decimal) -> str:
    """Of scaled units. Of a level that bills time: what was kept for an hour would come to as much."""
    if meter is None:
        return humanize.exact(units)
    quantity = meter.to_quantity(units)
    if meter.bills_as != "time_weighted":
        return quantities.in_words(meter, quantity)
    return f"{quantities.in_words(meter, round(quantity / SECONDS_OF_AN_HOUR, quantities.SHOWN_DIGITS))} for an hour"


def _place_of(one: NamedRow) -> str:
    return f"{one.row.hour.astimezone(UTC):%Y%m%dT%H%M%S}-{one.row.id}"


def _place() -> Place | None:
    """Where a page begins; the first page for what is no place."""
    hour, _, number = request.args.get("before", "").partition("-")
    try:
        return datetime.strptime(hour, "%Y%m%dT%H%M%S").replace(tzinfo=UTC), min(int(number), 2**63 - 1)
    except ValueError:
        return None
