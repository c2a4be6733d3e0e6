"""`verify` as a whole, Stripe included, and its runs as they are kept for those who look later, whoever made them.

Always holds: a run that came to its end has every check, and one that could not has its fault; a run whose worker was
killed has neither, which its age tells.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from time import perf_counter
from typing import Any

import structlog
from sqlalchemy import delete, select
from sqlalchemy.exc import SQLAlchemyError
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


def check_and_keep(runtime: Runtime, *, actor: str) -> list[Check]:
    """Every check, made here and now, and the run kept beside those that were asked for in the console.

    Keeping it is no part of the answer: a database that takes no writes, for one, is verified all the same. Raises
    whatever a check raises.
    """
    began = runtime.clock()
    run = Verification(asked_by=actor, asked_at=began, started_at=began, total=_total(runtime), checks=[])
    timed = _Timed()
    try:
        checks = check_all(runtime, told=lambda check: run.checks.append(timed(check)))
    except Exception as error:
        run.fault = _told(error)
        _keep(runtime, run)
        raise
    run.holds = all(check.holds for check in checks)
    _keep(runtime, run)
    return checks


def ask(session: Session, runtime: Runtime, *, actor: str) -> tuple[Verification, bool]:
    """A run that a job is to make, and whether it is new: where one waits or runs already, it is that one."""
    now = runtime.clock()
    under_way = select(Verification).where(
        Verification.finished_at.is_(None),
        Verification.fault.is_(None),
        Verification.asked_at > now - timedelta(seconds=MAX_SECONDS),
    )
    if (latest := session.scalars(under_way.order_by(Verification.id.desc()).limit(1)).one_or_none()) is not None:
        return latest, False
    run = Verification(asked_by=actor, asked_at=now, total=_total(runtime), checks=[])
    _add(session, run)
    return run, True


def carry_out(runtime: Runtime, run_id: int) -> bool:
    """Make the checks of a run, each written down as soon as it was made; whether all of them hold.

    Raises whatever a check raises, once that is written down.
    """
    with runtime.transaction() as session:
        session.get_one(Verification, run_id).started_at = runtime.clock()
    timed = _Timed()

    def told(check: Check) -> None:
        made = timed(check)
        with runtime.transaction() as session:
            run = session.get_one(Verification, run_id)
            run.checks = [*run.checks, made]

    try:
        holds = all(check.holds for check in check_all(runtime, told=told))
    except Exception as error:
        _end(runtime, run_id, fault=_told(error))
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
    return session.scalars(query.order_by(Verification.finished_at.desc()).limit(1)).one_or_none()


class _Timed:
    """Checks as they are kept, each with the time since the one before it."""

    def __init__(self) -> None:
        self._began = perf_counter()

    def __call__(self, check: Check) -> dict[str, Any]:
        seconds, self._began = perf_counter() - self._began, perf_counter()
        return {**check_as_json(check), "milliseconds": round(seconds * 1000)}


def _total(runtime: Runtime) -> int:
    return len(BOOKS) + 1 + int(runtime.settings.stripe != "off")


def _add(session: Session, run: Verification) -> None:
    session.add(run)
    session.flush()
    session.execute(delete(Verification).where(Verification.id <= run.id - KEPT_RUNS))


def _keep(runtime: Runtime, run: Verification) -> None:
    run.finished_at = runtime.clock()
    try:
        with runtime.transaction() as session:
            _add(session, run)
    except SQLAlchemyError as error:
        log.warning("verification_not_kept", detail=str(error).splitlines()[0])


def _end(runtime: Runtime, run_id: int, *, holds: bool | None = None, fault: str | None = None) -> None:
    with runtime.transaction() as session:
        run = session.get_one(Verification, run_id)
        run.finished_at, run.holds, run.fault = runtime.clock(), holds, fault


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
