"""Where reporting stands: what waits and why, who has no Stripe id, what the last comparison found."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from metering.billing.free import as_parameters
from metering.catalog import Catalog
from metering.models import MeterRow, ReconciledDifference, StripeMeter, StripeReport
from metering.runtime import Runtime
from metering.stripe_sync.history import standing_differences
from metering.stripe_sync.reporting import stripe_status
from metering.stripe_sync.single import Doubled, doubled
from metering.stripe_sync.sql import statement
from metering.stripe_sync.stops import Stopped, stop_of

REASONS_SHOWN = 20
"""In doubt, each row has a reason of its own: `stripe parked` lists them all."""


@dataclass(frozen=True, slots=True)
class StripeStanding:
    stopped: Stopped | None
    figures: dict[str, float]
    parked: list[dict[str, Any]]
    doubled: list[Doubled]
    differences: Sequence[ReconciledDifference]


def stripe_standing(session: Session, runtime: Runtime) -> StripeStanding:
    """As far as is stored: Stripe itself is not asked."""
    return StripeStanding(
        stopped=stop_of(session, runtime.settings),
        figures=stripe_status(runtime, session),
        parked=_parked(session),
        doubled=doubled(session),
        differences=standing_differences(session),
    )


def without_stripe_id(session: Session, catalog: Catalog, now: datetime) -> list[dict[str, Any]]:
    """Account, customer, meter and how much, of what is owed for customers that Stripe does not know.

    What costs nothing anyway is left out.
    """
    return _by_account(session, "usage_without_stripe_id", catalog, now)


def without_subscription(session: Session, catalog: Catalog, now: datetime) -> list[dict[str, Any]]:
    """The same, of what was used by those that Stripe knows while no subscription ran: nobody bills it."""
    return _by_account(session, "usage_without_subscription", catalog, now)


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


def _by_account(session: Session, name: str, catalog: Catalog, now: datetime) -> list[dict[str, Any]]:
    values = {"now": now, **as_parameters(catalog)}
    accounts = session.scalars(select(StripeMeter.account).distinct().order_by(StripeMeter.account)).all()
    return [
        {"account": account, **row._mapping}
        for account in accounts
        for row in session.execute(statement(name), {"account": account, **values})
    ]


def _parked(session: Session) -> list[dict[str, Any]]:
    """How many rows wait for the operator, by meter and reason."""
    rows = session.execute(
        select(MeterRow.key.label("meter"), StripeReport.fault.label("reason"), func.count().label("rows"))
        .join(MeterRow, MeterRow.id == StripeReport.meter_id)
        .where(StripeReport.state == "parked")
        .group_by(MeterRow.key, StripeReport.fault)
        .order_by(MeterRow.key, StripeReport.fault)
        .limit(REASONS_SHOWN)
    )
    return [dict(row._mapping) for row in rows]
