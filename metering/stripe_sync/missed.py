"""What came and went at Stripe before we heard of it: a subscription that was cancelled again within the hour, the end
of one after which another was bought, a short trial, a pause whose end began a new cycle. Its periods are laid
afterwards, as far as they are not closed.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.billing.rhythm import Cycle, Stretch, stretches_until
from metering.models import Customer, Period, StripeSubscription


def with_missed(
    session: Session, customer: Customer, account: str, stretches: Sequence[Stretch], free: str
) -> list[Stretch]:
    """The same stretches, with those before them that begin or end where no period of ours does.

    What is laid already stays as it is: the plan that an operator chose since then, too.
    """
    found = list(stretches)
    for one in _begun_before(session, customer.id, account, found[-1].starts_at):
        ended_at = one.ended_at or found[0].starts_at
        if one.starts_at >= ended_at or ended_at > found[0].starts_at:
            continue
        plans = _plans(session, customer.id, one.starts_at, found[0].starts_at)
        latest = min(one.period_starts_at, ended_at)
        # Where its cycle began anew: at the end of a trial or of a pause.
        anchors = {one.anchor} if one.starts_at < one.anchor < latest else set()
        if {one.starts_at, latest, ended_at, *anchors} <= plans.keys():
            continue
        start = one.starts_at if one.starts_at not in plans else min(anchors - plans.keys(), default=latest)
        plan, cycle = one.plan or free, Cycle(one.anchor, one.cycle)
        earlier = stretches_until(start, plan, cycle, customer.timezone, latest)
        lived = [*_cut(earlier, latest), Stretch(latest, ended_at, plan, cycle)]
        after = stretches_until(ended_at, free, None, customer.timezone, found[0].starts_at)
        before = [*(each for each in lived if each.starts_at < each.ends_at), *_cut(after, found[0].starts_at)]
        found = [*(replace(each, plan=plans.get(each.starts_at, each.plan)) for each in before), *found]
    return found


def _begun_before(session: Session, customer_id: int, account: str, moment: datetime) -> Sequence[StripeSubscription]:
    """The newest first."""
    query = select(StripeSubscription).where(
        StripeSubscription.customer_id == customer_id,
        StripeSubscription.account == account,
        StripeSubscription.status.not_in(("incomplete", "incomplete_expired")),
        StripeSubscription.starts_at < moment,
    )
    ordered = query.order_by(StripeSubscription.starts_at.desc(), StripeSubscription.id.desc())
    return session.scalars(ordered.execution_options(populate_existing=True)).all()


def _plans(session: Session, customer_id: int, since: datetime, until: datetime) -> dict[datetime, str]:
    """The plans of the periods that begin within, by their start."""
    query = select(Period.starts_at, Period.plan).where(
        Period.customer_id == customer_id, Period.starts_at >= since, Period.starts_at <= until
    )
    return {row.starts_at: row.plan for row in session.execute(query)}


def _cut(stretches: Sequence[Stretch], end: datetime) -> list[Stretch]:
    return [replace(one, ends_at=min(one.ends_at, end)) for one in stretches if one.starts_at < end]
