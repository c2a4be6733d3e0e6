"""Messages that could not become events, and events that are held for a customer or a meter: mended, decided on."""

from dataclasses import dataclass
from datetime import datetime

from flask import request, url_for
from flask.typing import ResponseReturnValue

from metering import exact_json, quantities
from metering.catalog import Catalog
from metering.clock import from_micros
from metering.errors import NotFound
from metering.extensions import db
from metering.models import HeldEvent, SetAside
from metering.operator.access import Missing, Operator, note_of, operator_action, operator_page
from metering.operator.pages import PAGE, When, blueprint, number_before, page_of, render, when
from metering.store import held as holding
from metering.store import void as mending
from metering.store.void import Replacement

MESSAGE, HELD = "<int(max=9223372036854775807):message_id>", "<int(max=9223372036854775807):held_id>"

REASONS = {
    "unreadable": "The message is none that the intake writes.",
    "unknown_customer": "PostgreSQL has no such customer.",
    "unknown_meter": "PostgreSQL has no such meter.",
    "no_open_period": "Neither its own time nor its admission lies in an open period.",
    "conflict": "Its identity is taken by an event that says something else.",
    "refused": "PostgreSQL refused the row.",
}


@dataclass(frozen=True, slots=True)
class MessageView:
    """`fields` is what the message says, as far as it can be read; `quantity` in the meter's unit, for the form."""

    id: int
    reason: str
    why: str
    detail: str
    customer: str
    meter: str
    quantity: str
    readable: bool
    at: When | None
    fields: tuple[tuple[str, str], ...]
    raw: str
    resolved: str | None


@dataclass(frozen=True, slots=True)
class HeldView:
    id: int
    customer: str
    type: str
    event_id: str
    source: str
    data: str
    at: When | None


@blueprint.get("/set-aside")
@operator_page
def messages(operator: Operator) -> ResponseReturnValue:
    now, catalog = operator.runtime.clock(), operator.runtime.catalog
    found = mending.waiting_messages(db.session(), after=number_before() or 0, limit=PAGE + 1)
    page = page_of(found, [_message(one, catalog, now) for one in found[:PAGE]], lambda one: one.id)
    return render(operator, "messages", page=page)


@blueprint.get(f"/set-aside/{MESSAGE}")
@operator_page
def message(operator: Operator, message_id: int) -> ResponseReturnValue:
    kept = db.session.get(SetAside, message_id)
    if kept is None:
        raise NotFound("there is no such message")
    catalog = operator.runtime.catalog
    meters = [(meter.key, f"{meter.name} ({meter.unit})") for meter in catalog.meters.values()]
    return render(operator, "message", one=_message(kept, catalog, operator.runtime.clock()), meters=meters)


def _back(**_: object) -> str:
    return url_for("operator.messages")


@blueprint.post(f"/set-aside/{MESSAGE}/replay")
@operator_action(_back)
def replay_message(operator: Operator, message_id: int) -> str:
    with operator.changing() as change:
        mending.replay_set_aside(change.session, message_id, actor=operator.actor, now=change.now)
    return f"Message {message_id} is replayed: it counts now."


@blueprint.post(f"/set-aside/{MESSAGE}/replace")
@operator_action(lambda message_id: url_for("operator.message", message_id=message_id))
def replace_message(operator: Operator, message_id: int) -> str:
    wanted = Replacement(
        customer=request.form.get("customer", "").strip(),
        meter=request.form.get("meter", ""),
        quantity=request.form.get("quantity", "").strip(),
    )
    if not wanted.quantity:
        raise Missing("say how much was used")
    reason = note_of("reason")
    runtime = operator.runtime
    with operator.changing() as change:
        mending.replace_set_aside(
            *(change.session, runtime.intake, runtime.catalog, message_id, wanted),
            reason=reason,
            actor=operator.actor,
            now=change.now,
        )
    return f"Message {message_id} is replaced. What it should have said is counted within a second."


@blueprint.post(f"/set-aside/{MESSAGE}/dismiss")
@operator_action(_back)
def dismiss_message(operator: Operator, message_id: int) -> str:
    reason = note_of("reason")
    with operator.changing() as change:
        mending.dismiss_set_aside(change.session, message_id, reason=reason, actor=operator.actor, now=change.now)
    return f"Message {message_id} is dismissed. It is kept, and counts nowhere."


@blueprint.get("/held")
@operator_page
def held(operator: Operator) -> ResponseReturnValue:
    found = holding.held_events(db.session(), after=number_before() or 0, limit=PAGE + 1)
    now = operator.runtime.clock()
    page = page_of(found, [_held(one, now) for one in found[:PAGE]], lambda one: one.id)
    return render(operator, "held", page=page)


@blueprint.post(f"/held/{HELD}/drop")
@operator_action(lambda **_: url_for("operator.held"))
def drop_held(operator: Operator, held_id: int) -> str:
    reason = note_of("reason")
    with operator.changing() as change:
        holding.drop(change.session, held_id, reason=reason, actor=operator.actor, now=change.now)
    return "The held event is dropped."


def _message(kept: SetAside, catalog: Catalog, now: datetime) -> MessageView:
    said = mending.read_message(kept)
    meter = catalog.meters.get(said.meter) if said else None
    amount = meter.to_quantity(said.units) if said and meter else None
    fields: list[tuple[str, str]] = []
    if said:
        shown = quantities.exact(meter, amount) if meter and amount is not None else f"{said.units} scaled units"
        fields = [
            ("Customer", said.customer),
            ("Meter", meter.name if meter else said.meter),
            ("Quantity", {"set": "level of ", "change": "change by "}.get(said.op, "") + shown),
            ("Happened", f"{from_micros(said.time):%Y-%m-%d %H:%M:%S} UTC"),
            ("Admitted", f"{from_micros(said.admitted):%Y-%m-%d %H:%M:%S} UTC"),
            ("Source", said.source),
            ("Id", said.id),
            *((name, str(value)) for name, value in exact_json.parse(said.properties).items()),
        ]
    return MessageView(
        kept.id,
        reason=kept.reason,
        why=REASONS.get(kept.reason, "The intake refused it."),
        detail=kept.detail,
        customer=said.customer if said else kept.customer or "",
        meter=said.meter if said else "",
        quantity="" if amount is None else f"{amount:f}",
        readable=said is not None,
        at=when(kept.created_at, now),
        fields=tuple(fields),
        raw=kept.message.decode("utf-8", "replace"),
        resolved=kept.resolution,
    )


def _held(one: HeldEvent, now: datetime) -> HeldView:
    id, source, _, data = exact_json.parse(one.event)
    shown = exact_json.write(data).decode()
    return HeldView(one.id, one.subject, one.type, id, source, shown, when(one.received_at, now))
