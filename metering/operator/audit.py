"""The audit log: who did what to whom, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from flask import request
from flask.typing import ResponseReturnValue
from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from metering.extensions import db
from metering.models import AuditEntry, Customer
from metering.operator import sentences
from metering.operator.access import Operator, operator_page
from metering.operator.pages import PAGE, When, blueprint, chosen, moment_of, page_of, render, when

Place = tuple[datetime, int]


@dataclass(frozen=True, slots=True)
class EntryView:
    """`who` is an e-mail, "cli:ACCOUNT", "key:ID" or "stripe", in words."""

    at: When | None
    who: str
    actor: str
    did: str
    action: str
    customer: str
    why: str
    details: tuple[tuple[str, str], ...]


@blueprint.get("/audit")
@operator_page
def audit(operator: Operator) -> ResponseReturnValue:
    wanted = chosen({"actor": "", "action": "", "customer": "", "since": "", "until": ""})
    session, now = db.session(), operator.runtime.clock()
    found = list_entries(session, wanted, limit=PAGE + 1)
    keys = _customer_keys(session, found)
    page = page_of(found, [_view(one, keys, now) for one in found[:PAGE]], _place_of)
    actions = sorted({*sentences.WORDS, *sentences.SPECIAL, *([wanted["action"]] if wanted["action"] else [])})
    return render(operator, "audit", page=page, wanted=wanted, actions=[("", "Any"), *((one, one) for one in actions)])


def list_entries(session: Session, wanted: dict[str, str], *, limit: int) -> Sequence[AuditEntry]:
    """The newest first, each filter in an index of its own."""
    query = select(AuditEntry).order_by(AuditEntry.at.desc(), AuditEntry.id.desc()).limit(limit)
    if actor := wanted["actor"]:
        query = query.where(AuditEntry.actor.in_([actor, f"user:{actor.lower()}"]))
    if wanted["action"]:
        query = query.where(AuditEntry.action == wanted["action"])
    if wanted["customer"]:
        customer_id = session.scalar(select(Customer.id).where(Customer.key == wanted["customer"]))
        query = query.where(AuditEntry.customer_id == (customer_id or 0))
    if since := moment_of(wanted["since"]):
        query = query.where(AuditEntry.at >= since)
    if until := moment_of(wanted["until"]):
        query = query.where(AuditEntry.at < until)
    if before := _place():
        query = query.where(tuple_(AuditEntry.at, AuditEntry.id) < before)
    return session.scalars(query).all()


def _customer_keys(session: Session, found: Sequence[AuditEntry]) -> dict[int, str]:
    ids = {one.customer_id for one in found if one.customer_id is not None}
    return {row.id: row.key for row in session.execute(select(Customer.id, Customer.key).where(Customer.id.in_(ids)))}


def _view(one: AuditEntry, keys: dict[int, str], now: datetime) -> EntryView:
    return EntryView(
        when(one.at, now),
        who=who(one.actor),
        actor=one.actor,
        did=sentences.sentence(one.action, one.detail),
        action=one.action,
        customer=keys.get(one.customer_id or 0, ""),
        why=sentences.reason(one.detail),
        details=tuple(sentences.details(one.action, one.detail)),
    )


def who(actor: str) -> str:
    kind, _, name = actor.partition(":")
    words = {"user": name, "cli": f"{name} (command line)", "key": f"API key {name}", "stripe": "Stripe"}
    return words.get(kind, actor)


def _place_of(one: AuditEntry) -> str:
    return f"{one.at.astimezone(UTC):%Y%m%dT%H%M%S.%f}-{one.id}"


def _place() -> Place | None:
    moment, _, number = request.args.get("before", "").partition("-")
    try:
        return datetime.strptime(moment, "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC), min(int(number), 2**63 - 1)
    except ValueError:
        return None
