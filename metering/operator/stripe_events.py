"""What Stripe told us, and whether it agrees: webhook events, and comparisons of its books with ours."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import structlog
from flask import request, url_for
from flask.typing import ResponseReturnValue
from redis.exceptions import RedisError

from metering import humanize
from metering.dashboard.view_models import Fragment
from metering.errors import Conflict, NotFound
from metering.extensions import db
from metering.models import ReconciledDifference, Reconciliation
from metering.operator.access import Missing, Operator, operator_action, operator_page
from metering.operator.pages import PAGE, When, blueprint, fragment, number_before, page_of, render, when
from metering.queues import CHECKS, QUEUE, enqueue
from metering.runtime import Runtime
from metering.stripe_sync import inbound, reconcile
from metering.stripe_sync.history import differences_of, list_runs

FOLLOW, COMPARE = "metering.jobs.process_stripe_event", "metering.jobs.compare_customer"
SHOWN = {"unsettled": ("waiting", "failed"), "all": ("waiting", "failed", "ignored", "processed")}
TONES = {"waiting": "accent", "failed": "danger", "ignored": "neutral", "processed": "ok"}
KINDS = {"daily": "Everybody, every day", "closing": "Periods that ended", "asked": "Asked for"}
MOST_DIFFERENCES = 200
LOST_SECONDS = 900.0

log = structlog.get_logger("metering.operator")


@dataclass(frozen=True, slots=True)
class EventView:
    id: str
    type: str
    object: str
    state: str
    tone: str
    attempts: int
    reason: str
    received: When | None
    next_try: When | None


@dataclass(frozen=True, slots=True)
class RunView(Fragment):
    """A comparison. `progress` says how far it came."""

    id: int
    kind: str
    customer: str
    asked_by: str
    started: When | None
    running: bool
    progress: str
    differences: int
    for_operator: int


@dataclass(frozen=True, slots=True)
class DifferenceView:
    customer: str
    meter: str
    period: str
    used: str
    reported: str
    at_stripe: str
    estimated: str
    invoiced: str
    causes: tuple[str, ...]
    done: str
    needs_operator: bool


@blueprint.get("/stripe/events")
@operator_page
def stripe_events(operator: Operator) -> ResponseReturnValue:
    shown = "all" if request.args.get("show") == "all" else "unsettled"
    found = inbound.list_events(db.session(), states=SHOWN[shown], limit=PAGE + 1, before=number_before())
    now = operator.runtime.clock()
    rows = [
        EventView(
            one.event_id,
            type=one.type,
            object=one.object_id or "",
            state=one.state,
            tone=TONES[one.state],
            attempts=one.attempts,
            reason=one.reason or "",
            received=when(one.received_at, now),
            next_try=when(one.next_try_at, now) if one.state == "waiting" else None,
        )
        for one in found[:PAGE]
    ]
    return render(operator, "stripe_events", page=page_of(found, rows, lambda one: one.id), shown=shown)


@blueprint.post("/stripe/events/<stripe_event>/retry")
@operator_action(lambda **_: url_for("operator.stripe_events"))
def retry_stripe_event(operator: Operator, stripe_event: str) -> str:
    with operator.changing() as change:
        row_id = inbound.retry(change.session, stripe_event, now=change.now, actor=operator.actor)
    _put_in(operator.runtime, QUEUE, FOLLOW, row_id)  # where that fails, the schedule finds it
    return f"{stripe_event} is followed again now."


@blueprint.get("/stripe/reconciliations")
@operator_page
def reconciliations(operator: Operator) -> ResponseReturnValue:
    found, now = list_runs(db.session(), before=number_before(), limit=PAGE + 1), operator.runtime.clock()
    rows = [_run(run, different, wanting, now) for run, different, wanting in found[:PAGE]]
    return render(operator, "reconciliations", page=page_of(found, rows, lambda one: one[0].id))


@blueprint.get("/stripe/reconciliations/<int(max=9223372036854775807):comparison_id>")
@operator_page
def reconciliation(operator: Operator, comparison_id: int) -> ResponseReturnValue:
    differences = [_difference(one) for one in differences_of(db.session(), comparison_id, limit=MOST_DIFFERENCES)]
    return render(operator, "reconciliation", view=_found_run(operator, comparison_id), differences=differences)


@blueprint.get("/live/reconciliations/<int(max=9223372036854775807):comparison_id>")
@operator_page
def live_reconciliation(operator: Operator, comparison_id: int) -> ResponseReturnValue:
    view = _found_run(operator, comparison_id)
    differences = [_difference(one) for one in differences_of(db.session(), comparison_id, limit=MOST_DIFFERENCES)]
    return fragment(view, "reconciliation", differences=differences)


@blueprint.post("/stripe/reconciliations")
@operator_action(lambda **_: url_for("operator.reconciliations"))
def reconcile_now(operator: Operator) -> str:
    customer = request.form.get("customer", "").strip()
    if not customer:
        raise Missing("say which customer")
    if operator.runtime.settings.stripe == "off":
        raise Conflict("METERING_STRIPE is off: there is nothing to compare with")
    try:
        run_id = reconcile.ask_for(operator.runtime, customer, actor=operator.actor)
    except NotFound as error:
        raise Missing(error.message) from None
    if not _put_in(operator.runtime, CHECKS, COMPARE, run_id):
        raise Conflict("the queue’s Redis does not answer: ask again later")
    return f"The comparison of {customer} is under way."


def _put_in(runtime: Runtime, queue: str, job: str, number: int) -> bool:
    try:
        enqueue(runtime.queue_redis, job, number, queue=queue)
    except RedisError as error:
        log.warning("job_not_enqueued", job=job, detail=str(error))
        return False
    return True


def _found_run(operator: Operator, run_id: int) -> RunView:
    found = list_runs(db.session(), before=run_id + 1, limit=1)
    if not found or found[0][0].id != run_id:
        raise NotFound("there is no such comparison")
    return _run(*found[0], operator.runtime.clock())


def _run(run: Reconciliation, different: int, for_operator: int, now: datetime) -> RunView:
    compared = f"{humanize.exact(run.compared)} compared"
    lost = run.kind == "asked" and (now - run.started_at).total_seconds() > LOST_SECONDS
    running = run.finished_at is None and not lost
    if run.finished_at is None:
        compared += ", under way" if running else ", never finished: see the failed jobs"
    return RunView(
        run.id,
        kind=KINDS[run.kind],
        customer=run.customer or "",
        asked_by=(run.asked_by or "").removeprefix("user:"),
        started=when(run.started_at, now),
        running=running,
        progress=compared,
        differences=different,
        for_operator=for_operator,
    )


def _difference(one: ReconciledDifference) -> DifferenceView:
    return DifferenceView(
        one.customer,
        meter=one.meter,
        period=f"since {humanize.day(one.period_starts_at, UTC)}",
        used=humanize.exact(one.used),
        reported=humanize.exact(one.reported),
        at_stripe=_maybe(one.at_stripe),
        estimated=_maybe(one.estimated),
        invoiced=_maybe(one.invoiced),
        causes=tuple(one.causes),
        done=one.done,
        needs_operator=one.needs_operator,
    )


def _maybe(value: Decimal | None) -> str:
    return "unknown" if value is None else humanize.exact(value)
