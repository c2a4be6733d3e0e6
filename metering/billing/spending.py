"""Alerts about money: the bill of a period has come to an amount that the customer named; once a period.

Looked at where something can have raised a bill: a batch of the drain, and hours that are closed. A bill is estimated
only for a period whose customer has a threshold that has not fired in it; to find that there is none takes one query.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from decimal import Decimal

from sqlalchemy import and_, exists, or_, select
from sqlalchemy.orm import Session

from metering.billing.estimate import totals
from metering.catalog import Catalog
from metering.limits.alerts import Crossed, write_down
from metering.models import Alert, AlertThreshold, Period
from metering.store.batch import Stored


def detect_in_batch(session: Session, catalog: Catalog, stored: Stored, *, now: datetime) -> Sequence[int]:
    """Write down the amounts that bills have reached with a batch; the ids of the alerts that are new.

    A total counts in the period it belongs to, a level in the one that goes on.
    """
    period_ids = {total.period_id for total in stored.totals}
    return _detect(session, catalog, period_ids, {level.customer_id for level in stored.levels}, now)


def detect_in_periods(
    session: Session, catalog: Catalog, period_ids: Collection[int], *, now: datetime
) -> Sequence[int]:
    """The same, for periods in which hours that were just closed cost something."""
    return _detect(session, catalog, period_ids, (), now)


def _detect(
    session: Session, catalog: Catalog, period_ids: Collection[int], customer_ids: Collection[int], now: datetime
) -> Sequence[int]:
    if not period_ids and not customer_ids:
        return ()
    waiting = _waiting(session, period_ids, customer_ids, now)
    if not waiting:
        return ()
    periods = {period.id: period for period, _ in waiting}
    come_to = totals(session, catalog, periods.values(), now=now)
    crossed = [
        Crossed(
            customer_id=period.customer_id,
            period_id=period.id,
            kind="money",
            value=amount,
            total=come_to[period.id],
            currency=catalog.currency,
        )
        for period, amount in waiting
        if period.id in come_to and come_to[period.id] >= amount
    ]
    return write_down(session, crossed, now=now)


def _waiting(
    session: Session, period_ids: Collection[int], customer_ids: Collection[int], now: datetime
) -> list[tuple[Period, Decimal]]:
    """The amounts that have not fired yet, with their period; periods that are billed already wait for nothing."""
    fired = exists().where(
        Alert.customer_id == AlertThreshold.customer_id,
        Alert.period_id == Period.id,
        Alert.kind == "money",
        Alert.value == AlertThreshold.value,
    )
    goes_on = and_(Period.customer_id.in_(customer_ids), Period.ends_at > now)
    rows = session.execute(
        select(Period, AlertThreshold.value)
        .join(AlertThreshold, AlertThreshold.customer_id == Period.customer_id)
        .where(AlertThreshold.kind == "money", or_(Period.id.in_(period_ids), goes_on))
        .where(Period.starts_at <= now, Period.closed_at.is_(None), ~fired)
    )
    return [(row[0], row[1]) for row in rows]
