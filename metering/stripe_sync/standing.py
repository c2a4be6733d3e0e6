"""Where reporting stands: what waits and why, who has no Stripe id, what the last comparison found."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.models import ReconciledDifference, StripeMeter, StripeReport
from metering.runtime import Runtime
from metering.stripe_sync.history import last_run
from metering.stripe_sync.reporting import stripe_status
from metering.stripe_sync.single import Doubled, doubled
from metering.stripe_sync.sql import statement
from metering.stripe_sync.stops import Stopped, stop_of


@dataclass(frozen=True, slots=True)
class StripeStanding:
    """`without_stripe_id`: account, customer, meter, hours and units of what nobody can be told of."""

    stopped: Stopped | None
    figures: dict[str, float]
    without_stripe_id: list[dict[str, Any]]
    doubled: list[Doubled]
    differences: Sequence[ReconciledDifference]


def stripe_standing(session: Session, runtime: Runtime) -> StripeStanding:
    """As far as is stored: Stripe itself is not asked."""
    last = last_run(session)
    accounts = session.scalars(select(StripeMeter.account).distinct()).all()
    return StripeStanding(
        stopped=stop_of(session, runtime.settings),
        figures=stripe_status(runtime, session),
        without_stripe_id=[
            {"account": account, **row._mapping}
            for account in accounts
            for row in session.execute(
                statement("usage_without_stripe_id"), {"account": account, "now": runtime.clock()}
            )
        ],
        doubled=doubled(session),
        differences=last[1] if last else (),
    )


def last_accepted_age_seconds(session: Session, runtime: Runtime) -> float | None:
    """How long ago Stripe accepted a row last; None where it never did."""
    newest = [
        session.scalar(
            select(StripeReport.settled_at)
            .where(StripeReport.account == account, StripeReport.state == "accepted")
            .order_by(StripeReport.settled_at.desc())
            .limit(1)
        )
        for account in session.scalars(select(StripeMeter.account).distinct())
    ]
    found = [moment for moment in newest if moment is not None]
    return (runtime.clock() - max(found)).total_seconds() if found else None
