"""What comparisons with Stripe found, for as long as that is kept."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, select, tuple_, update
from sqlalchemy.orm import Session

from metering.models import Customer, ReconciledDifference, Reconciliation


def last_run(session: Session) -> Reconciliation | None:
    """The latest comparison over everybody that came to its end."""
    return session.scalars(
        select(Reconciliation)
        .where(Reconciliation.kind == "daily", Reconciliation.finished_at.is_not(None))
        .order_by(Reconciliation.started_at.desc())
        .limit(1)
    ).one_or_none()


def standing_differences(session: Session) -> Sequence[ReconciledDifference]:
    """What the last comparison of each customer and period found, whoever asked for it."""
    found = select(ReconciledDifference).where(ReconciledDifference.replaced_at.is_(None))
    order = (ReconciledDifference.customer, ReconciledDifference.period_starts_at, ReconciledDifference.meter)
    return session.scalars(found.order_by(*order, ReconciledDifference.id)).all()


def replace_differences(
    session: Session,
    account: str,
    customer_id: int,
    compared: Collection[tuple[str, datetime]] | None,
    *,
    now: datetime,
) -> None:
    """What was found before of these meters and starts of periods, or with None of all, stands no longer."""
    runs = select(Reconciliation.id).where(Reconciliation.account == account)
    former = update(ReconciledDifference).where(
        ReconciledDifference.replaced_at.is_(None),
        ReconciledDifference.customer == select(Customer.key).where(Customer.id == customer_id).scalar_subquery(),
        ReconciledDifference.reconciliation_id.in_(runs),
    )
    if compared is not None:
        series = tuple_(ReconciledDifference.meter, ReconciledDifference.period_starts_at)
        former = former.where(series.in_(compared))
    session.execute(former.values(replaced_at=now))


def forget_old(session: Session, *, now: datetime, keep_days: int) -> int:
    """Drop runs, with their differences, that began more than `keep_days` ago; how many."""
    oldest = now - timedelta(days=keep_days)
    dropped = session.execute(
        delete(Reconciliation).where(Reconciliation.started_at < oldest).returning(Reconciliation.id)
    )
    return len(dropped.all())
