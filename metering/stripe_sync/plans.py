"""Which of our plans a subscription is for."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from metering.catalog import Catalog
from metering.errors import MeteringError
from metering.stripe_sync.prices import plan_of

METADATA = ("metering_plan", "plan")
"""Where a subscription, or one of its prices, may name a plan of ours."""


class PlanUnknown(MeteringError):
    """Nothing at a subscription says for which plan of ours it is."""

    code = "plan-unknown"


def free_plan(catalog: Catalog) -> str:
    """The plan of customers without a subscription: `free`, else the first that has no base fee."""
    if "free" in catalog.plans:
        return "free"
    return next((key for key, plan in catalog.plans.items() if not plan.base_fee), next(iter(catalog.plans)))


def plan_for(session: Session, catalog: Catalog, account: str, subscription: Any) -> str:
    """Known prices decide, then metadata of the subscription, then that of its prices. Raises PlanUnknown."""
    prices = [item.price for item in subscription["items"].data]
    plan = plan_of(session, account, [price.id for price in prices])
    named = [plan] if plan else [key for one in (subscription, *prices) for key in _named(one.metadata)]
    for key in named:
        if key in catalog.plans:
            return key
    said = f"{', '.join(named)} is no plan of the catalog" if named else "none of its prices is known"
    raise PlanUnknown(
        f"{subscription.id}: {said}; name the plan in its metadata, under {METADATA[0]}", subscription=subscription.id
    )


def _named(metadata: Mapping[str, str] | None) -> list[str]:
    return [metadata[name] for name in METADATA if name in metadata] if metadata else []
