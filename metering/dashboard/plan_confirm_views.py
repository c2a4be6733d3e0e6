"""What a change of the plan means, before it is made: the price, what is prorated, what becomes of usage, what would
not fit. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal

from metering import humanize
from metering.billing.estimate import Estimate
from metering.catalog import Catalog, Plan
from metering.dashboard.plan_views import PlanLine, is_offered, plan_line
from metering.models import StripeSubscription
from metering.money import round_money
from metering.service import MeterUsage

MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Fact:
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Change:
    """The move to another plan. `over`: what is used beyond its hard limits, in words."""

    plan: str
    name: str
    before: str
    facts: tuple[Fact, ...]
    lines: tuple[tuple[PlanLine, PlanLine], ...]
    over: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cancellation:
    """The end of a plan, then or now."""

    name: str
    after: str
    ends_text: str
    at_end: tuple[str, ...]
    at_once: tuple[str, ...]
    over: tuple[str, ...]


def share_left(running: StripeSubscription, now: datetime) -> Decimal:
    """The part of the running period that is yet to come, as Stripe prorates: to the second."""
    length = (running.period_ends_at - running.period_starts_at) // MICROSECOND
    left = max(running.period_ends_at - now, timedelta(0)) // MICROSECOND
    return min(Decimal(left) / Decimal(length), Decimal(1))


def change(
    catalog: Catalog,
    before: Plan,
    wanted: Plan,
    running: StripeSubscription,
    used: Mapping[str, MeterUsage],
    *,
    where: tzinfo,
    now: datetime,
) -> Change:
    return Change(
        plan=wanted.key,
        name=wanted.name,
        before=before.name,
        facts=tuple(_facts(catalog, before, wanted, running, where, now)),
        lines=tuple(
            (
                plan_line(catalog, before, meter, used.get(meter.key)),
                plan_line(catalog, wanted, meter, used.get(meter.key)),
            )
            for meter in catalog.meters.values()
            if is_offered(catalog, meter)
        ),
        over=_over(catalog, wanted, used, [*catalog.meters]),
    )


def _facts(
    catalog: Catalog, before: Plan, wanted: Plan, running: StripeSubscription, where: tzinfo, now: datetime
) -> list[Fact]:
    def money(amount: Decimal) -> str:
        return humanize.money(amount, catalog.currency)

    ends = humanize.day(running.period_ends_at, where)
    difference = round_money((wanted.base_fee - before.base_fee) * share_left(running, now), catalog.currency)
    if difference > 0:
        prorated = (
            f"Nothing is charged today. The invoice of {ends} holds about {money(difference)} "
            "for the rest of the running period"
        )
    elif difference < 0:
        prorated = (
            f"Nothing is charged today. On the invoice of {ends} about {money(-difference)} is taken off "
            "for the rest of the running period"
        )
    else:
        prorated = "Nothing is charged for the running period"
    found = [
        Fact("Price", f"{money(wanted.base_fee)} a month from {ends} on, instead of {money(before.base_fee)}."),
        Fact("Until then", f"{prorated}; Stripe works it out to the second."),
        Fact(
            "What you have used",
            "It counts on in the running period, which does not begin anew: what is included is not given twice.",
        ),
        Fact("Limits", f"Those of the {wanted.name} plan hold at once."),
    ]
    if running.cancels_at is not None:
        found.append(Fact("Your cancellation", "It is taken back: the plan renews."))
    return found


def cancellation(
    catalog: Catalog,
    plan: Plan,
    free: Plan,
    running: StripeSubscription,
    bill: Estimate | None,
    used: Mapping[str, MeterUsage],
    *,
    where: tzinfo,
    now: datetime,
) -> Cancellation:
    def money(amount: Decimal) -> str:
        return humanize.money(amount, catalog.currency)

    ends = humanize.day(running.period_ends_at, where)
    usage = sum((line.amount for line in bill.lines if line.usage is not None), Decimal(0)) if bill else None
    so_far = "" if usage is None else f" ({money(usage)})"
    rest = round_money(plan.base_fee * share_left(running, now), catalog.currency)
    return Cancellation(
        name=plan.name,
        after=free.name,
        ends_text=ends,
        at_end=(
            f"Nothing changes until {ends}; you can take it back until then.",
            "What you use until then is billed in a last invoice.",
            f"From then on the {free.name} plan and its limits hold, counted from nothing.",
        ),
        at_once=(
            f"The {free.name} plan and its limits hold at once, counted from nothing.",
            f"A last invoice bills what you used so far{so_far}, less the rest of the fee, about {money(rest)}. "
            "What remains of that is kept as credit for later invoices, and not paid out.",
            "Buying a plan again begins a new period: its fee is due in full, less your credit, and what is included "
            "begins anew.",
        ),
        over=_over(catalog, free, used, [key for key, meter in catalog.meters.items() if meter.is_level]),
    )


def _over(catalog: Catalog, plan: Plan, used: Mapping[str, MeterUsage], meters: Sequence[str]) -> tuple[str, ...]:
    lines = [plan_line(catalog, plan, catalog.meters[key], used.get(key)) for key in meters]
    fits = [(line.meter, line.fit) for line in lines if line.fit and line.fit.over]
    return tuple(f"{meter}: {fit.text[0].lower()}{fit.text[1:]}" for meter, fit in fits)
