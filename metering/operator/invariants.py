"""The checks of `verify`: the last run, one that is under way, and running them now."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from flask import url_for
from flask.typing import ResponseReturnValue

from metering import humanize
from metering import verification as verifying
from metering.dashboard.view_models import Fragment
from metering.errors import NotFound
from metering.extensions import db
from metering.models import Verification
from metering.operator.access import Operator, operator_action, operator_page
from metering.operator.audit import who
from metering.operator.pages import When, blueprint, fragment, render, when
from metering.queues import CHECKS, enqueue
from metering.store.verify import BOOKS, LIVE
from metering.stripe_sync import verify as at_stripe

SHOWN_RUNS = 20


@dataclass(frozen=True, slots=True)
class FindingView:
    where: str
    text: str


@dataclass(frozen=True, slots=True)
class CheckView:
    """`state`: ok, danger, or waiting where it was not made yet."""

    name: str
    claim: str
    state: str
    took: str
    fault: str
    findings: tuple[FindingView, ...]


@dataclass(frozen=True, slots=True)
class RunView(Fragment):
    """`state`: running, ok, danger or lost. `done` and `total` count checks."""

    id: int
    state: str
    title: str
    asked_by: str
    asked: When | None
    took: str
    done: int
    total: int
    fault: str
    checks: tuple[CheckView, ...]

    @property
    def running(self) -> bool:
        return self.state == "running"


@blueprint.get("/invariants")
@operator_page
def invariants(operator: Operator) -> ResponseReturnValue:
    runs = verifying.last_runs(db.session(), limit=SHOWN_RUNS)
    now = operator.runtime.clock()
    views = [_run(operator, one, now) for one in runs]
    return render(operator, "invariants", view=views[0] if views else None, runs=views[1:], claims=_claims(operator))


@blueprint.get("/invariants/<int(max=9223372036854775807):run_id>")
@operator_page
def verification(operator: Operator, run_id: int) -> ResponseReturnValue:
    return render(operator, "verification", view=_found(operator, run_id))


@blueprint.get("/live/invariants/<int(max=9223372036854775807):run_id>")
@operator_page
def live_verification(operator: Operator, run_id: int) -> ResponseReturnValue:
    return fragment(_found(operator, run_id), "verification")


@blueprint.post("/invariants")
@operator_action(lambda **_: url_for("operator.invariants"))
def verify_now(operator: Operator) -> str:
    with operator.changing() as change:
        run, is_new = verifying.ask(change.session, operator.runtime, actor=operator.actor)
        if is_new:
            change.note("verify.run", run=run.id)
    if not is_new:
        return "A run is under way already."
    redis = operator.runtime.queue_redis
    enqueue(redis, verifying.JOB, run.id, queue=CHECKS, timeout_seconds=verifying.MAX_SECONDS)
    return "The checks were begun."


def _found(operator: Operator, run_id: int) -> RunView:
    run = db.session.get(Verification, run_id)
    if run is None:
        raise NotFound("there is no such run")
    return _run(operator, run, operator.runtime.clock())


def _claims(operator: Operator) -> dict[str, str]:
    stripe = {} if operator.runtime.settings.stripe == "off" else {at_stripe.NAME: at_stripe.CLAIM}
    return {**BOOKS, "live": LIVE, **stripe}


def _run(operator: Operator, run: Verification, now: datetime) -> RunView:
    made = {one["check"]: one for one in run.checks}
    lost = not verifying.is_over(run) and (now - run.asked_at).total_seconds() > verifying.MAX_SECONDS
    state = "lost" if lost or run.fault else "running" if run.finished_at is None else "ok" if run.holds else "danger"
    titles = {"lost": "Did not come to an end", "running": "Under way", "ok": "All hold", "danger": "Differences found"}
    took = (run.finished_at - run.started_at).total_seconds() if run.finished_at and run.started_at else None
    return RunView(
        run.id,
        state=state,
        title=titles[state],
        asked_by=who(run.asked_by),
        asked=when(run.asked_at, now),
        took="" if took is None else f"{took:.1f} s",
        done=len(run.checks),
        total=run.total,
        fault=run.fault or ("the worker that made it was killed, or none ran" if lost else ""),
        checks=tuple(_check(name, claim, made.get(name)) for name, claim in _claims(operator).items()),
    )


def _check(name: str, claim: str, made: dict[str, Any] | None) -> CheckView:
    if made is None:
        return CheckView(name, claim, "waiting", "", "", ())
    differences = [
        FindingView(
            " · ".join(part for part in (one["customer"], one["meter"]) if part),
            f"{one['detail']}: is {_exact(one['actual'])}, should be {_exact(one['expected'])} "
            f"(by {_exact(one['by'])})",
        )
        for one in made["differences"]
    ]
    unseen = [FindingView(one["customer"], f"not looked at: {one['detail']}") for one in made["not_looked_at"]]
    took = f"{made.get('milliseconds', 0):,} ms"
    state = "ok" if made["holds"] else "danger"
    return CheckView(name, claim, state, took, made["fault"] or "", (*differences, *unseen))


def _exact(value: Any) -> str:
    return humanize.exact(Decimal(str(value)))
