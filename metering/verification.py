"""`verify` as a whole, Stripe included, and its runs as they are kept for those who look later.

Always holds: a run that came to its end has every check, and one that could not has its fault; a run whose worker was
killed has neither, which its age tells.
"""

from collections.abc import Callable, Sequence
from time import perf_counter

import structlog
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from metering.models import Verification
from metering.runtime import Runtime
from metering.store.verify import BOOKS, Check, check_as_json, verify
from metering.stripe_sync.verify import verify_stripe

KEPT_RUNS = 200
JOB = "metering.jobs.run_verification"
MAX_SECONDS = 3600
"""How long a run may take as a job."""

log = structlog.get_logger("metering.verification")


def check_all(runtime: Runtime, *, told: Callable[[Check], None] = lambda _: None) -> list[Check]:
    """Every check, `told` of each as soon as it was made. Raises IntakeUnavailable."""
    checks = verify(runtime.engine, runtime.redis, told=told)
    if (at_stripe := verify_stripe(runtime)) is not None:
        checks.append(at_stripe)
        told(at_stripe)
    return checks


def ask(session: Session, runtime: Runtime, *, actor: str) -> tuple[Verification, bool]:
    """A run that a job is to make, and whether it is new: where one waits or runs already, it is that one."""
    now = runtime.clock()
    latest = last_runs(session, limit=1)
    if latest and not is_over(latest[0]) and (now - latest[0].asked_at).total_seconds() < MAX_SECONDS:
        return latest[0], False
    total = len(BOOKS) + 1 + int(runtime.settings.stripe != "off")
    run = Verification(asked_by=actor, asked_at=now, total=total, checks=[])
    session.add(run)
    session.flush()
    session.execute(delete(Verification).where(Verification.id <= run.id - KEPT_RUNS))
    return run, True


def carry_out(runtime: Runtime, run_id: int) -> bool:
    """Make the checks of a run, each written down as soon as it was made; whether all of them hold.

    Raises whatever a check raises, once that is written down.
    """
    with runtime.transaction() as session:
        session.get_one(Verification, run_id).started_at = runtime.clock()
    began = perf_counter()

    def told(check: Check) -> None:
        nonlocal began
        seconds, began = perf_counter() - began, perf_counter()
        with runtime.transaction() as session:
            run = session.get_one(Verification, run_id)
            run.checks = [*run.checks, {**check_as_json(check), "milliseconds": round(seconds * 1000)}]

    try:
        holds = all(check.holds for check in check_all(runtime, told=told))
    except Exception as error:
        _end(runtime, run_id, fault=f"{type(error).__name__}: {error}")
        raise
    _end(runtime, run_id, holds=holds)
    if not holds:
        log.error("books_differ", run=run_id)
    return holds


def is_over(run: Verification) -> bool:
    return run.finished_at is not None or run.fault is not None


def last_runs(session: Session, *, limit: int) -> Sequence[Verification]:
    """The newest first."""
    return session.scalars(select(Verification).order_by(Verification.id.desc()).limit(limit)).all()


def last_finished(session: Session) -> Verification | None:
    query = select(Verification).where(Verification.finished_at.is_not(None))
    return session.scalars(query.order_by(Verification.id.desc()).limit(1)).one_or_none()


def _end(runtime: Runtime, run_id: int, *, holds: bool | None = None, fault: str | None = None) -> None:
    with runtime.transaction() as session:
        run = session.get_one(Verification, run_id)
        run.finished_at, run.holds, run.fault = runtime.clock(), holds, fault
