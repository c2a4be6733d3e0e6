"""Subscriptions at Stripe, mirrored: what is stored here, the customer's plan and its billing periods follow them.

Always holds: a subscription is fetched under a lock on its id and written in the same transaction, so what is stored
never goes back in time, whatever order messages come in; plan and periods derive from all that is stored of a customer,
so doing it twice changes nothing.

What a status means: `trialing`, `active` and `past_due` are served by the plan that was bought (Stripe goes on asking
for the money); `paused` and `unpaid` by the free plan, within the subscription's periods, until it is paid for;
`incomplete` has not begun; `canceled` ended at `ended_at`, from when on calendar months on the free plan follow.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, not_, select, text
from sqlalchemy.orm import Session

from metering.billing.realign import hold_periods, lay
from metering.billing.rhythm import Cycle, Stretch, stretches_until
from metering.catalog import Catalog
from metering.clock import zulu
from metering.models import AuditEntry, Customer, Period, StripeSubscription
from metering.notify.deliveries import Message, tell
from metering.settings import Settings
from metering.stripe_sync.asking import asking, moment, moment_or_none
from metering.stripe_sync.customers import ensure_link, find_ours
from metering.stripe_sync.gateway import STANDIN, StripeApi
from metering.stripe_sync.missed import with_missed
from metering.stripe_sync.plans import PlanUnknown, free_plan, plan_for

SERVED = ("trialing", "active", "past_due")
HELD_BACK = ("paused", "unpaid")
RUNNING = SERVED + HELD_BACK
NOT_BEGUN = ("incomplete", "incomplete_expired")


def mirror(session: Session, api: StripeApi, catalog: Catalog, stripe_id: str, *, now: datetime) -> str | None:
    """Fetch a subscription and let the customer follow it; why not, where it is none of ours. The caller commits.

    Raises:
        StripeFailed: Stripe does not know it, or did not answer.
        PlanUnknown: nothing says for which plan it is. Conflict: its customer is another of ours at Stripe.
    """
    lock_object(session, api.account, stripe_id)
    with asking():
        subscription = api.client.v1.subscriptions.retrieve(stripe_id)
    customer_id = _id(subscription.customer)
    customer = find_ours(session, api, customer_id)
    if customer is None:
        return f"{customer_id} is no customer of ours"
    hold_periods(session, customer, now)
    ensure_link(session, customer, customer_id, now=now)
    row = _write(session, api.account, catalog, customer, subscription, now)
    follow(session, catalog, customer, row.account, now=now)
    return None


def lock_object(session: Session, account: str, stripe_id: str) -> None:
    """Have an object's mirror to oneself until the transaction ends: what is fetched after this is the newest."""
    session.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": f"stripe {account} {stripe_id}"}
    )


def follow(session: Session, catalog: Catalog, customer: Customer, account: str, *, now: datetime) -> bool:
    """Let plan and periods be what the stored subscriptions say; whether that changed anything. The caller holds the
    customer's periods (`hold_periods`).
    """
    governing = governing_subscription(session, customer.id, account)
    if governing is None:
        return False
    free = free_plan(catalog)
    asked = stretches_of(governing, free, customer.timezone, now)
    wanted = with_missed(session, customer, account, asked, free)
    if governing.ended_at is not None and wanted == asked and not _goes_on(session, customer.id, governing.ended_at):
        return False  # periods that an operator has changed since then are not its business
    before = customer.plan
    changed = lay(session, customer, wanted, now)
    if changed:
        detail = {"subscription": governing.stripe_id, "status": governing.status, "from": before, "to": customer.plan}
        session.add(
            AuditEntry(at=now, actor="stripe", action="stripe.subscription", customer_id=customer.id, detail=detail)
        )
        ends_at = governing.ended_at or governing.cancels_at
        told = {"customer": customer.key, **detail, "ends_at": zulu(ends_at) if ends_at else None}
        tell(session, [Message(customer.id, "subscription.changed", told)], now=now)
    return changed


def running_subscription(session: Session, settings: Settings, customer_id: int) -> StripeSubscription | None:
    """The latest one that runs where we report to, Stripe or its stand-in; None where none does.

    What another installation's rows say is nobody's plan: those of the stand-in with a real key, all of them with
    METERING_STRIPE=off.
    """
    if settings.stripe == "off":
        return None
    with_standin = StripeSubscription.account == STANDIN
    query = select(StripeSubscription).where(
        StripeSubscription.customer_id == customer_id,
        StripeSubscription.status.in_(RUNNING),
        with_standin if settings.stripe == "standin" else not_(with_standin),
    )
    return session.scalars(query.order_by(StripeSubscription.starts_at.desc()).limit(1)).one_or_none()


def governing_subscription(session: Session, customer_id: int, account: str) -> StripeSubscription | None:
    """The one that decides: of those that run the one that began last, else the one that ended last."""
    query = (
        select(StripeSubscription)
        .where(
            StripeSubscription.customer_id == customer_id,
            StripeSubscription.account == account,
            StripeSubscription.status.not_in(NOT_BEGUN),
        )
        .order_by(
            StripeSubscription.status.in_(RUNNING).desc(),
            func.coalesce(StripeSubscription.ended_at, StripeSubscription.starts_at).desc(),
            StripeSubscription.stripe_id,
        )
        .limit(1)
    )
    return session.scalars(query.execution_options(populate_existing=True)).one_or_none()


def stretches_of(one: StripeSubscription, free: str, timezone: str, now: datetime) -> list[Stretch]:
    """The periods that a subscription asks for, up to the one after the period that holds `now`."""
    if one.ended_at is not None:
        return stretches_until(one.ended_at, free, None, timezone, now)
    plan = one.plan if one.plan and one.status in SERVED else free
    cycle, ends_at = Cycle(one.anchor, one.cycle), one.period_ends_at
    if one.cancels_at is not None and one.cancels_at <= ends_at:
        running = Stretch(one.period_starts_at, one.cancels_at, plan, cycle)
        return [running, *stretches_until(one.cancels_at, free, None, timezone, now)]
    running = Stretch(one.period_starts_at, ends_at, plan, cycle)
    return [running, *stretches_until(ends_at, plan, cycle, timezone, now)]


def _goes_on(session: Session, customer_id: int, ended_at: datetime) -> bool:
    """Whether a subscription's periods are stored beyond its end."""
    beyond = select(Period.id).where(
        Period.customer_id == customer_id,
        Period.ends_at > ended_at,
        Period.anchor.is_not(None),
        Period.closed_at.is_(None),
    )
    return session.scalar(beyond.limit(1)) is not None


def _write(
    session: Session, account: str, catalog: Catalog, customer: Customer, subscription: Any, now: datetime
) -> StripeSubscription:
    query = select(StripeSubscription).where(
        StripeSubscription.account == account, StripeSubscription.stripe_id == subscription.id
    )
    row = session.scalars(query.execution_options(populate_existing=True)).one_or_none()
    row = row or StripeSubscription(account=account, stripe_id=subscription.id)
    plan = _plan(session, catalog, account, subscription, row.plan)
    items: Sequence[Any] = subscription["items"].data
    row.customer_id, row.status, row.fetched_at = customer.id, subscription.status, now
    row.price_ids = sorted(item.price.id for item in items)
    row.plan = plan
    row.starts_at, row.ended_at = moment(subscription.start_date), moment_or_none(subscription.ended_at)
    # Where items have periods of their own, that which lies in all of them.
    row.period_starts_at = moment(max(item.current_period_start for item in items))
    row.period_ends_at = moment(min(item.current_period_end for item in items))
    row.cancels_at = moment_or_none(subscription.cancel_at)
    if subscription.cancel_at_period_end and row.cancels_at is None:
        row.cancels_at = row.period_ends_at
    row.anchor = moment(subscription.billing_cycle_anchor)
    shortest = min(items, key=lambda item: item.current_period_end)
    row.cycle = f"{shortest.price.recurring.interval_count} {shortest.price.recurring.interval}"
    row.collection_paused = subscription.pause_collection is not None
    session.add(row)
    session.flush()
    return row


def _plan(session: Session, catalog: Catalog, account: str, subscription: Any, before: str | None) -> str | None:
    """Raises PlanUnknown; but one that has ended has ended, though its plan is sold no more."""
    try:
        return plan_for(session, catalog, account, subscription)
    except PlanUnknown:
        if subscription.ended_at is None:
            raise
        return before


def _id(reference: Any) -> str:
    """An id, whether Stripe answered it or the object in full."""
    return str(reference if isinstance(reference, str) else reference.id)
