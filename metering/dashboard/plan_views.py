"""What the plan page shows: the plans side by side with what the customer uses laid over them, and the subscription.
Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal

from metering import humanize, quantities
from metering.billing.estimate import Estimate
from metering.catalog import Catalog, Limit, Meter, Plan, Price
from metering.dashboard.view_models import Bar, State, bar_for, percent_of, state_for
from metering.models import StripeSubscription
from metering.service import MeterUsage

WORDS = {
    "trialing": ("accent", "Trial"),
    "active": ("ok", "Active"),
    "past_due": ("warn", "Payment due"),
    "paused": ("warn", "Paused"),
    "unpaid": ("danger", "Unpaid"),
}
TROUBLE = {
    "past_due": "The last payment did not go through. Stripe tries again; put the payment method right meanwhile.",
    "paused": "The subscription is paused. Until a payment method is added, the limits of the free plan hold.",
    "unpaid": "Invoices are unpaid. Until they are paid, the limits of the free plan hold.",
}


LONGEST_MONTH = timedelta(days=31)


@dataclass(frozen=True, slots=True)
class Fit:
    """What a customer uses of a meter, on a plan. `over`: more than its hard limit allows."""

    text: str
    bar: Bar
    state: State
    percent: Decimal | None
    over: bool


@dataclass(frozen=True, slots=True)
class PlanLine:
    """What a plan offers of one meter, and how the customer's usage fits into it; None where that is not known."""

    key: str
    meter: str
    limit: str
    price: str
    fit: Fit | None


@dataclass(frozen=True, slots=True)
class PlanCard:
    """`action`: what its button does, `checkout` or `change`; None where there is nothing to press. `cost`: what the
    usage of the running period comes to on it, with its fee.
    """

    key: str
    name: str
    fee: str
    lines: tuple[PlanLine, ...]
    current: bool
    action: str | None
    cost: str | None

    @property
    def over(self) -> bool:
        return any(line.fit.over for line in self.lines if line.fit)


@dataclass(frozen=True, slots=True)
class SubscriptionView:
    status: str
    tone: str
    text: str
    trouble: str | None
    ends: bool
    renews_text: str
    renews_at: datetime


@dataclass(frozen=True, slots=True)
class PlanView:
    """The plan as it is now beside the others. `waiting`: it was bought, and Stripe's message has not come yet."""

    customer_key: str
    plan_name: str
    waiting: bool
    subscription: SubscriptionView | None
    cards: tuple[PlanCard, ...]
    may_buy: bool
    has_payment: bool
    note: str | None = None
    doubled: str | None = None
    """What is wrong where several subscriptions run."""


def doubled_text(subscriptions: Sequence[str]) -> str:
    return (
        f"Several subscriptions run for you ({', '.join(subscriptions)}), and each bills your usage. "
        "Whoever runs this service ends all but one, and gives back what they cost."
    )


def plan_cards(
    catalog: Catalog,
    current: str,
    used: Mapping[str, MeterUsage],
    costs: Mapping[str, Estimate],
    *,
    sold: Sequence[str],
    subscribed: bool,
    may_buy: bool,
) -> tuple[PlanCard, ...]:
    meters = [meter for meter in catalog.meters.values() if is_offered(catalog, meter)]
    return tuple(
        PlanCard(
            key=plan.key,
            name=plan.name,
            fee=humanize.money(plan.base_fee, catalog.currency),
            lines=tuple(plan_line(catalog, plan, meter, used.get(meter.key)) for meter in meters),
            current=plan.key == current,
            action=_action(plan, current, sold=sold, subscribed=subscribed) if may_buy else None,
            cost=humanize.money(costs[plan.key].total, catalog.currency) if plan.key in costs else None,
        )
        for plan in catalog.plans.values()
    )


def subscription_view(found: StripeSubscription, zone: tzinfo) -> SubscriptionView:
    tone, text = WORDS.get(found.status, ("neutral", found.status))
    at = found.cancels_at or found.period_ends_at
    return SubscriptionView(
        status=found.status,
        tone=tone,
        text=text,
        trouble=TROUBLE.get(found.status),
        ends=found.cancels_at is not None,
        renews_text=humanize.day(at, zone),
        renews_at=at,
    )


def _action(plan: Plan, current: str, *, sold: Sequence[str], subscribed: bool) -> str | None:
    """A plan without a base fee is what is left when a subscription ends: it is not bought."""
    if plan.key == current or plan.key not in sold or not plan.base_fee:
        return None
    return "change" if subscribed else "checkout"


def is_offered(catalog: Catalog, meter: Meter) -> bool:
    """Whether any plan limits a meter or asks money for it: others are counted for the customer's own interest."""
    return any(meter.key in plan.limits or catalog.price(plan.key, meter.key) for plan in catalog.plans.values())


def plan_line(catalog: Catalog, plan: Plan, meter: Meter, used: MeterUsage | None) -> PlanLine:
    price, limit = catalog.price(plan.key, meter.key), plan.limits.get(meter.key)
    words = "No limit" if limit is None else quantities.in_words(meter, limit.value)
    return PlanLine(
        key=meter.key,
        meter=meter.name,
        limit=words if limit is None else f"Up to {words}",
        price=_price_text(catalog, meter, price, limit) if price else "",
        fit=_fit(meter, price, limit, used.used) if used else None,
    )


def _fit(meter: Meter, price: Price | None, limit: Limit | None, used: Decimal) -> Fit:
    most = None if limit is None else limit.value
    percent = percent_of(used, most)
    over = limit is not None and limit.mode == "hard" and used > limit.value
    alone = meter.is_level and used == most == 1  # the one seat of a plan is taken by whoever looks
    ends_before = price is not None and limit is not None and _all_included(meter, price, limit)
    of = "" if most is None else f" of {quantities.bare(meter, most)}"
    return Fit(
        text=f"You use {quantities.bare(meter, used)}{of}",
        bar=bar_for(used, limit=most, included=quantities.included_quantity(meter, None if ends_before else price)),
        state="ok" if alone else state_for(percent),
        percent=percent,
        over=over,
    )


def _price_text(catalog: Catalog, meter: Meter, price: Price, limit: Limit | None) -> str:
    """What comes with the plan, and what more costs."""
    if limit is not None and _all_included(meter, price, limit):
        return "All included"
    included = f"{quantities.included_text(meter, price)} included, then" if price.included else "Billed"
    if price.tiers:
        return f"{included} by tiers"
    return f"{included} {humanize.unit_price(price.amount, catalog.currency)} per {price.unit}"


def _all_included(meter: Meter, price: Price, limit: Limit) -> bool:
    """Whether nothing up to a hard limit costs anything; what is billed by time, in a month."""
    if meter.bills_as == "time_weighted" and limit.mode == "hard":
        return limit.value * (LONGEST_MONTH // timedelta(seconds=1)) <= price.included * price.size
    return quantities.all_included(meter, price, limit.value, limit.mode)
