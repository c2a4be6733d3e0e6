"""What reconciliations found, for as long as that is kept."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from metering.models import ReconciledDifference, Reconciliation


def last_run(session: Session) -> tuple[Reconciliation, Sequence[ReconciledDifference]] | None:
    """The latest comparison over everybody that came to its end, and what it found."""
    run = session.scalars(
        select(Reconciliation)
        .where(Reconciliation.kind == "daily", Reconciliation.finished_at.is_not(None))
        .order_by(Reconciliation.started_at.desc())
        .limit(1)
    ).one_or_none()
    if run is None:
        return None
    found = select(ReconciledDifference).where(ReconciledDifference.reconciliation_id == run.id)
    return run, session.scalars(found.order_by(ReconciledDifference.id)).all()


def forget_old(session: Session, *, now: datetime, keep_days: int) -> int:
    """Drop runs, with their differences, that began more than `keep_days` ago; how many."""
    oldest = now - timedelta(days=keep_days)
    dropped = session.execute(
        delete(Reconciliation).where(Reconciliation.started_at < oldest).returning(Reconciliation.id)
    )
    return len(dropped.all())
