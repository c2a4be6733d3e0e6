"""What the plan page shows: the plans side by side, the subscription, and the invoices. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from metering.catalog import Catalog, Meter, Plan, Price
from metering.dashboard import humanize, quantities
from metering.models import Invoice, StripeSubscription

WORDS = {
    "trialing": ("accent", "Trial"),
    "active": ("ok", "Active"),
    "past_due": ("warn", "Payment due"),
    "paused": ("warn", "Paused"),
    "unpaid": ("danger", "Unpaid"),
    "open": ("accent", "Open"),
    "paid": ("ok", "Paid"),
    "uncollectible": ("danger", "Uncollectible"),
    "void": ("neutral", "Void"),
}
TROUBLE = {
    "past_due": "The last payment did not go through. Stripe tries again; put the payment method right meanwhile.",
    "paused": "The subscription is paused. Until a payment method is added, the limits of the free plan hold.",
    "unpaid": "Invoices are unpaid. Until they are paid, the limits of the free plan hold.",
}


@dataclass(frozen=True, slots=True)
class PlanLine:
    """What a plan offers of one meter."""

    meter: str
    limit: str
    price: str


@dataclass(frozen=True, slots=True)
class PlanCard:
    """`action`: what its button does, `checkout` or `change`; None where there is nothing to press."""

    key: str
    name: str
    fee: str
    lines: tuple[PlanLine, ...]
    current: bool
    action: str | None


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
class InvoiceView:
    number: str
    period: str
    total: str
    status: str
    tone: str
    issued_text: str
    issued_at: datetime
    hosted_url: str | None
    pdf_url: str | None


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
    catalog: Catalog, current: str, *, sold: Sequence[str], subscribed: bool, may_buy: bool
) -> tuple[PlanCard, ...]:
    meters = [meter for meter in catalog.meters.values() if _is_offered(catalog, meter)]
    return tuple(
        PlanCard(
            key=plan.key,
            name=plan.name,
            fee=humanize.money(plan.base_fee, catalog.currency),
            lines=tuple(_line(catalog, plan, meter) for meter in meters),
            current=plan.key == current,
            action=_action(plan, current, sold=sold, subscribed=subscribed) if may_buy else None,
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


def invoice_views(invoices: Sequence[Invoice], zone: tzinfo) -> tuple[InvoiceView, ...]:
    return tuple(
        InvoiceView(
            number=one.number or "—",
            period=_billed_period(one, zone),
            total=f"{humanize.money(one.total, one.currency)} {one.currency}",
            status=WORDS.get(one.status, ("neutral", one.status))[1],
            tone=WORDS.get(one.status, ("neutral", one.status))[0],
            issued_text=humanize.day(one.issued_at, zone),
            issued_at=one.issued_at,
            hosted_url=one.hosted_url,
            pdf_url=one.pdf_url,
        )
        for one in invoices
    )


def _billed_period(invoice: Invoice, zone: tzinfo) -> str:
    """The first invoice of a subscription is of a moment: it bills what is paid in advance."""
    if invoice.period_starts_at == invoice.period_ends_at:
        return humanize.day(invoice.period_starts_at, zone)
    return humanize.period(invoice.period_starts_at, invoice.period_ends_at, zone)


def _action(plan: Plan, current: str, *, sold: Sequence[str], subscribed: bool) -> str | None:
    """A plan without a base fee is what is left when a subscription ends: it is not bought."""
    if plan.key == current or plan.key not in sold or not plan.base_fee:
        return None
    return "change" if subscribed else "checkout"


def _is_offered(catalog: Catalog, meter: Meter) -> bool:
    """Whether any plan limits a meter or asks money for it: others are counted for the customer's own interest."""
    return any(meter.key in plan.limits or catalog.price(plan.key, meter.key) for plan in catalog.plans.values())


def _line(catalog: Catalog, plan: Plan, meter: Meter) -> PlanLine:
    price, limit = catalog.price(plan.key, meter.key), plan.limits.get(meter.key)
    return PlanLine(
        meter=meter.name,
        limit="No limit" if limit is None else f"Up to {quantities.in_words(meter, limit.value)}",
        price=_price_text(catalog, meter, price) if price else "",
    )


def _price_text(catalog: Catalog, meter: Meter, price: Price) -> str:
    """What comes with the plan, and what more costs."""
    included = f"{quantities.included_text(meter, price)} included"
    if price.tiers:
        return f"{included}, then by tiers"
    return f"{included}, then {humanize.unit_price(price.amount, catalog.currency)} per {price.unit}"
