"""The first page of the console: how usage flows, and what needs a human."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from flask import url_for
from flask.typing import ResponseReturnValue
from redis.exceptions import RedisError
from sqlalchemy.orm import Session

from metering import humanize, queues, verification
from metering.dashboard.view_models import Fragment
from metering.extensions import db
from metering.intake.tally import Minute, last_minutes, percentile_seconds
from metering.operator.access import Operator, operator_page
from metering.operator.charts import Chart, bars
from metering.operator.pages import blueprint, fragment, render
from metering.runtime import Runtime
from metering.store.status import Flow, flow
from metering.stripe_sync import inbound
from metering.stripe_sync.standing import StripeStanding, last_accepted_age_seconds, stripe_standing

MINUTES = 60
RECENT = 5
"""Minutes over which times are told: a single one may have had few calls."""
LATE_SECONDS = 60.0
QUIET_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that waits for a human, and what to do about it."""

    level: str
    title: str
    text: str
    url: str | None = None
    link: str = "Look"


@dataclass(frozen=True, slots=True)
class Figure:
    label: str
    value: str
    hint: str = ""
    url: str | None = None


@dataclass(frozen=True, slots=True)
class HomeView(Fragment):
    alarms: tuple[Alarm, ...]
    charts: tuple[Chart, ...]
    now: tuple[Figure, ...]
    refusals: tuple[Figure, ...]
    stripe: tuple[Figure, ...]


@blueprint.get("")
@operator_page
def home(operator: Operator) -> ResponseReturnValue:
    return render(operator, "home", view=_view(operator.runtime))


@blueprint.get("/live/flow")
@operator_page
def live_flow(operator: Operator) -> ResponseReturnValue:
    return fragment(_view(operator.runtime), "flow")


def _view(runtime: Runtime) -> HomeView:
    session, now = db.session(), runtime.clock()
    state = flow(session, runtime.redis, now=now)
    minutes = _minutes(runtime, now)
    stripe = None if runtime.settings.stripe == "off" else stripe_standing(session, runtime)
    return HomeView(
        alarms=tuple(alarms(session, runtime, state, stripe, now)),
        charts=charts(minutes),
        now=(
            Figure("Backlog", _count(state.backlog_entries), "entries not in PostgreSQL yet"),
            Figure("Lag", "—" if state.lag_seconds is None else f"{state.lag_seconds:.1f} s", "age of the oldest"),
            Figure("Inbox", _count(state.inbox), "events that wait for Redis"),
            Figure("Set aside", _count(state.set_aside), "wait for a decision", url_for("operator.messages")),
            Figure("Held", _count(state.held), "wait for a customer or meter", url_for("operator.held")),
            Figure("Corrections", _count(state.corrections), "of live counters, to be applied"),
        ),
        refusals=refusals(minutes),
        stripe=() if stripe is None else tuple(_stripe(session, runtime, stripe)),
    )


def _minutes(runtime: Runtime, now: datetime) -> Sequence[Minute]:
    try:
        return last_minutes(runtime.queue_redis, now, MINUTES)
    except RedisError:
        return ()


def charts(minutes: Sequence[Minute]) -> tuple[Chart, ...]:
    """The last hour by minute. The figure is that of the last whole minute."""
    if not minutes:
        return ()
    last, recent = minutes[-2], minutes[-RECENT:]
    spans = [percentile_seconds([one], 99) or 0.0 for one in minutes]
    half, most = percentile_seconds(recent, 50), percentile_seconds(recent, 99)
    times = "No call lately" if half is None else f"p50 {_milliseconds(half)} · p99 {_milliseconds(most)}"
    refused = [sum(one.refused.values()) for one in minutes]

    def counted(label: str, hint: str, values: Sequence[int], figure: int) -> Chart:
        text = f"{label} in each of the last {len(values)} minutes: {humanize.exact(max(values))} at most"
        return bars(label, [float(one) for one in values], figure=humanize.exact(figure), hint=hint, text=text)

    return (
        counted("Events in", "in the last whole minute", [one.recorded for one in minutes], last.recorded),
        counted("Drained", "to PostgreSQL, in that minute", [one.drained for one in minutes], last.drained),
        bars(
            "Admission",
            spans,
            figure="—" if most is None else _milliseconds(most),
            hint=f"{times}, {RECENT} min",
            text=f"Time to decide on a call, p99 in each of the last {len(minutes)} minutes. {times}",
        ),
        counted("Refused", "429 in that minute", refused, refused[-2]),
    )


def refusals(minutes: Sequence[Minute]) -> tuple[Figure, ...]:
    """429s of the last hour by what refused them, the most first."""
    names = sorted({name for one in minutes for name in one.refused})
    found = [(name, sum(one.refused.get(name, 0) for one in minutes)) for name in names]
    return tuple(
        Figure("Calls too fast (rate)" if name == "rate" else f"Limit of {name}", humanize.exact(number))
        for name, number in sorted(found, key=lambda pair: (-pair[1], pair[0]))
    )


def alarms(
    session: Session, runtime: Runtime, state: Flow, stripe: StripeStanding | None, now: datetime
) -> list[Alarm]:
    """`stripe` is None where nothing is told to it."""
    found = _flow_alarms(runtime, state, now) + ([] if stripe is None else _stripe_alarms(session, runtime, stripe))
    last = verification.last_finished(session)
    if last is not None and not last.holds:
        text = "verify found differences or could not finish. Read what each check found."
        url = url_for("operator.verification", run_id=last.id)
        found.append(Alarm("critical", "The books do not agree", text, url, "Findings"))
    return found


def _flow_alarms(runtime: Runtime, state: Flow, now: datetime) -> list[Alarm]:
    found = []
    if not state.redis_up:
        text = "Metered calls are refused or served on trust. Bring Redis back; nothing else is needed."
        return [Alarm("critical", "Redis does not answer", text)]
    if state.lost_partitions:
        text = "No call is admitted there until the drain has rebuilt them. See that a worker runs."
        found.append(Alarm("critical", f"{humanize.plural(state.lost_partitions, 'partition')} lost", text))
    if (state.lag_seconds or 0) > LATE_SECONDS:
        text = "Usage is admitted, and not stored. See that the drain runs, and its log."
        found.append(Alarm("critical", f"The drain is {humanize.duration(int(state.lag_seconds or 0))} late", text))
    if state.set_aside:
        title = f"{humanize.plural(state.set_aside, 'message')} set aside"
        text = "Usage that could not become events. Mend the cause and replay, correct, or dismiss each."
        found.append(Alarm("warning", title, text, url_for("operator.messages"), "Decide"))
    if state.held:
        title = f"{humanize.plural(state.held, 'event')} held"
        text = "Make the customer or the meter that they name, or drop them."
        found.append(Alarm("info", title, text, url_for("operator.held"), "Look"))
    return [*found, *_queue_alarms(runtime, now)]


def _queue_alarms(runtime: Runtime, now: datetime) -> list[Alarm]:
    url = url_for("operator.queues")
    try:
        working, beat = queues.workers(runtime.queue_redis), queues.scheduler_seen_at(runtime.queue_redis)
        lengths = {one.name: one for one in queues.lengths(runtime.queue_redis)}
    except RedisError:
        return [Alarm("critical", "The queue’s Redis does not answer", "No job runs until it is back.")]
    served = {name for worker in working for name in worker.queues}
    failed, found = sum(one.failed for one in lengths.values()), []
    if queues.QUEUE not in served:
        text = "Hours are not closed and Stripe is told nothing. Start a worker: python worker.py"
        found.append(Alarm("critical", "No RQ worker runs", text, url))
    if lengths[queues.CHECKS].waiting and queues.CHECKS not in served:
        text = "What was asked for waits. Start a worker for it: python worker.py --only checks"
        found.append(Alarm("warning", "No worker makes checks", text, url))
    if beat is None or (now - beat).total_seconds() > QUIET_SECONDS:
        text = "Recurring jobs are not put in. Start a worker: python worker.py"
        found.append(Alarm("critical", "No schedule runs", text, url))
    if failed:
        text = "Read why, mend the cause, then put them in again or delete them."
        found.append(Alarm("warning", f"{humanize.plural(failed, 'job')} failed", text, url, "Jobs"))
    return found


def _stripe_alarms(session: Session, runtime: Runtime, standing: StripeStanding) -> list[Alarm]:
    counts, found = inbound.counts(session, runtime.catalog), []
    if standing.stopped:
        text = f"{standing.stopped.reason}. Set a good key, or mend its permissions and resume."
        url = url_for("operator.stripe")
        found.append(Alarm("critical", "Stripe refuses the key: nothing is sent", text, url, "Resume"))
    if parked := int(standing.figures.get("stripe_parked", 0)):
        text = "Stripe refused them. Mend the cause and retry, settle, or write off each."
        url = url_for("operator.stripe", state="parked")
        found.append(Alarm("warning", f"{humanize.plural(parked, 'row')} parked", text, url, "Decide"))
    if standing.doubled:
        names = ", ".join(one.customer for one in standing.doubled[:5])
        text = "Their usage is billed by two subscriptions: end one of each."
        url = url_for("operator.customer", customer_key=standing.doubled[0].customer)
        found.append(Alarm("critical", f"Billed twice: {names}", text, url, "Subscriptions"))
    if failed := counts["events_failed"]:
        text = "They were tried for the better part of a day. Read why, and retry."
        title = f"{humanize.plural(failed, 'webhook event')} given up"
        found.append(Alarm("warning", title, text, url_for("operator.stripe_events"), "Events"))
    if lacking := counts["customers_without_subscription"]:
        title = f"{humanize.plural(lacking, 'customer')} without a subscription"
        text = "They use, and Stripe bills nothing of it."
        url = url_for("operator.customers", show="unsold")
        found.append(Alarm("warning", title, text, url, "Customers"))
    if different := sum(one.needs_operator for one in standing.differences):
        title = f"{humanize.plural(different, 'difference')} to Stripe to decide on"
        found.append(Alarm("warning", title, "The last comparison found them.", url_for("operator.reconciliations")))
    return found


def _stripe(session: Session, runtime: Runtime, standing: StripeStanding) -> list[Figure]:
    figures = standing.figures
    age = last_accepted_age_seconds(session, runtime)

    def figure(label: str, name: str, hint: str, state: str | None = None) -> Figure:
        url = url_for("operator.stripe", state=state) if state else None
        return Figure(label, humanize.exact(int(figures.get(f"stripe_{name}", 0))), hint, url)

    return [
        figure("Owed", "owed_hours", "hours without a row yet"),
        figure("To be sent", "pending", "rows", "pending"),
        figure("Accepted", "accepted_last_day", "rows in the last day", "accepted"),
        figure("Parked", "parked", "rows, to be decided on", "parked"),
        figure("In doubt", "doubtful", "rows, to be looked up", "doubtful"),
        Figure("Stopped", "Yes" if figures.get("stripe_stopped") else "No", "whether the key is refused"),
        Figure("Last success", "—" if age is None else humanize.duration(int(age)), "ago"),
    ]


def _count(value: int | None) -> str:
    return "—" if value is None else humanize.exact(value)


def _milliseconds(seconds: float | None) -> str:
    value = Decimal(repr(round((seconds or 0) * 1000, 2 if (seconds or 0) < 0.01 else 0)))
    return f"{humanize.exact(value)} ms"
