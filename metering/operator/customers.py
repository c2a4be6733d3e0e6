"""Customers for operators: found, looked at, put on another plan, suspended, linked with Stripe."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from flask import request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from metering import humanize
from metering.accounts.customers import change_plan, find_customer, link_with_stripe, lock_customer, set_status
from metering.accounts.in_force import put_in_force
from metering.accounts.keys import keys_of
from metering.accounts.search import search_customers
from metering.accounts.users import members_of
from metering.billing.periods import PLAN_STARTS
from metering.billing.rhythm import zone
from metering.catalog import Catalog
from metering.dashboard import presenters
from metering.dashboard.access import current_metering
from metering.dashboard.history import history_of
from metering.dashboard.outlook import Outlook
from metering.dashboard.view_models import KeyView, UsageCard
from metering.errors import MeteringError
from metering.extensions import db
from metering.models import Customer, Membership, Period, StripeSubscription
from metering.operator.access import Missing, Operator, note_of, operator_action, operator_page
from metering.operator.pages import PAGE, When, blueprint, page_of, render, when
from metering.runtime import Runtime
from metering.stripe_sync import inbound, single
from metering.stripe_sync.customers import require_known
from metering.stripe_sync.mirror import RUNNING
from metering.stripe_sync.processing import mirror_now
from metering.stripe_sync.reporting import gateway_for

SHOWN_MEMBERS = 100


@dataclass(frozen=True, slots=True)
class CustomerRow:
    key: str
    name: str
    plan: str
    status: str
    stripe: str
    subscription: str
    subscription_tone: str
    members: int
    created: When | None


@dataclass(frozen=True, slots=True)
class MemberView:
    name: str
    email: str
    role: str
    joined: When | None


@dataclass(frozen=True, slots=True)
class SubscriptionView:
    id: str
    status: str
    plan: str
    period: str
    runs: bool


@dataclass(frozen=True, slots=True)
class CustomerView:
    """`next_plan` is set where another one begins with the next period; `usage_fault` where no figures can be read."""

    key: str
    name: str
    plan: str
    plan_name: str
    next_plan: str | None
    status: str
    timezone: str
    period: str
    partition: int
    stripe_id: str
    lacks_subscription: bool
    created: When | None
    cards: tuple[UsageCard, ...]
    usage_fault: str
    members: tuple[MemberView, ...]
    keys: tuple[KeyView, ...]
    subscriptions: tuple[SubscriptionView, ...]
    doubled: tuple[str, ...]


@blueprint.get("/customers")
@operator_page
def customers(operator: Operator) -> ResponseReturnValue:
    session, runtime = db.session(), operator.runtime
    text = request.args.get("q", "").replace("\x00", "").strip()[:200]
    lacking = set(inbound.unsold(session, runtime.catalog)) if runtime.settings.stripe != "off" else set()
    after = request.args.get("before") or None
    if request.args.get("show") == "unsold":
        keys = [key for key in sorted(lacking) if key > (after or "")][: PAGE + 1]
        found: Sequence[Customer] = session.scalars(
            select(Customer).where(Customer.key.in_(keys)).order_by(Customer.key)
        ).all()
    else:
        found = search_customers(session, text=text, after=after, limit=PAGE + 1)
    rows = _rows(session, runtime, found[:PAGE], lacking)
    page = page_of(found, rows, lambda one: one.key)
    return render(operator, "customers", page=page, text=text, lacking=len(lacking), shown=request.args.get("show"))


@blueprint.get("/customers/<customer_key>")
@operator_page
def customer(operator: Operator, customer_key: str) -> ResponseReturnValue:
    session, catalog = db.session(), operator.runtime.catalog
    found = find_customer(session, customer_key)
    plans = [(key, plan.name) for key, plan in catalog.plans.items()]
    return render(operator, "customer", one=_view(session, operator.runtime, found), plans=plans)


def _back(customer_key: str) -> str:
    return url_for("operator.customer", customer_key=customer_key)


@blueprint.post("/customers/<customer_key>/plan")
@operator_action(_back)
def put_on_plan(operator: Operator, customer_key: str) -> str:
    plan, start = request.form.get("plan", ""), request.form.get("when", "")
    if start not in PLAN_STARTS:
        raise Missing("say from when on the plan bills")
    runtime = operator.runtime
    with operator.changing() as change:
        found = lock_customer(change.session, customer_key)
        change_plan(change.session, runtime.settings, runtime.catalog, found, plan, when=start, now=change.now)
        change.note("customer.plan", found, plan=plan, when=start)
    return f"{customer_key} is on {plan}" + (" from the next period on." if start == "period_end" else " now.")


@blueprint.post("/customers/<customer_key>/status")
@operator_action(_back)
def set_customer_status(operator: Operator, customer_key: str) -> str:
    status = request.form.get("status", "")
    if status not in ("active", "suspended"):
        raise Missing("a customer is active or suspended")
    why = {"note": note_of()} if status == "suspended" else {}
    with operator.changing() as change:
        found = lock_customer(change.session, customer_key)
        if found.status == status:
            return f"{customer_key} is {status} already."
        set_status(change.session, found, status)
        change.note("customer.change", found, status=status, **why)
    return f"{customer_key} is served again." if status == "active" else f"{customer_key} is served no metered call."


@blueprint.post("/customers/<customer_key>/stripe-id")
@operator_action(_back)
def link_customer(operator: Operator, customer_key: str) -> str:
    wanted = request.form.get("stripe_id", "").strip() or None
    runtime = operator.runtime
    if wanted is not None and runtime.settings.stripe != "off":
        require_known(gateway_for(runtime.settings), wanted, customer_key)
    with operator.changing() as change:
        found = lock_customer(change.session, customer_key)
        link_with_stripe(change.session, runtime.settings, found, wanted, now=change.now, actor=operator.actor)
    return f"{customer_key} is {wanted or 'nobody'} at Stripe."


@blueprint.post("/customers/<customer_key>/end-double")
@operator_action(_back)
def end_double(operator: Operator, customer_key: str) -> str:
    subscription, note, runtime = request.form.get("subscription", ""), note_of(), operator.runtime
    with operator.changing() as change:
        lock_customer(change.session, customer_key)
        api = gateway_for(runtime.settings)
        single.end_double(change.session, api, subscription, note=note, now=change.now, actor=operator.actor)
    mirror_now(runtime, subscription)
    put_in_force(runtime)
    return f"{subscription} has ended. Refund at Stripe what it cost."


def _rows(session: Session, runtime: Runtime, found: Sequence[Customer], lacking: set[str]) -> list[CustomerRow]:
    ids, now = [one.id for one in found], runtime.clock()
    counted = session.execute(
        select(Membership.customer_id, func.count())
        .where(Membership.customer_id.in_(ids))
        .group_by(Membership.customer_id)
    )
    members = {row[0]: row[1] for row in counted}
    running = session.execute(
        select(StripeSubscription.customer_id, StripeSubscription.status)
        .where(StripeSubscription.customer_id.in_(ids))
        .order_by(StripeSubscription.starts_at)
    )
    statuses = {row[0]: row[1] for row in running}
    return [
        CustomerRow(
            one.key,
            name=one.name,
            plan=presenters.plan_name(runtime.catalog, one.plan),
            status=one.status,
            stripe=one.stripe_customer_id or "",
            subscription="Missing" if one.key in lacking else statuses.get(one.id, "None").replace("_", " "),
            subscription_tone="danger"
            if one.key in lacking
            else "ok"
            if statuses.get(one.id) in RUNNING
            else "neutral",
            members=members.get(one.id, 0),
            created=when(one.created_at, now),
        )
        for one in found
    ]


def _view(session: Session, runtime: Runtime, found: Customer) -> CustomerView:
    catalog, now, where = runtime.catalog, runtime.clock(), zone(found.timezone)
    cards, fault = _cards(found, catalog, where, now)
    periods = session.scalars(
        select(Period).where(Period.customer_id == found.id, Period.ends_at > now).order_by(Period.starts_at).limit(2)
    ).all()
    subscriptions = session.scalars(
        select(StripeSubscription)
        .where(StripeSubscription.customer_id == found.id)
        .order_by(StripeSubscription.starts_at.desc())
        .limit(PAGE)
    ).all()
    twins = single.doubled(session, customer_id=found.id)
    later = periods[1].plan if len(periods) > 1 and periods[1].plan != found.plan else None
    return CustomerView(
        found.key,
        name=found.name,
        plan=found.plan,
        plan_name=presenters.plan_name(catalog, found.plan),
        next_plan=presenters.plan_name(catalog, later) if later else None,
        status=found.status,
        timezone=found.timezone,
        period=humanize.period(periods[0].starts_at, periods[0].ends_at) if periods else "none",
        partition=found.partition,
        stripe_id=found.stripe_customer_id or "",
        lacks_subscription=runtime.settings.stripe != "off" and bool(inbound.unsold(session, catalog, found.key)),
        created=when(found.created_at, now),
        cards=cards,
        usage_fault=fault,
        members=tuple(
            MemberView(one.user.name or one.user.email, one.user.email, one.role, when(one.created_at, now))
            for one in members_of(session, found, after=None, limit=SHOWN_MEMBERS)
        ),
        keys=presenters.key_views(keys_of(session, found), now, zone(found.timezone)),
        subscriptions=tuple(
            SubscriptionView(
                one.stripe_id,
                status=one.status.replace("_", " "),
                plan=presenters.plan_name(catalog, one.plan) if one.plan else "not one of ours",
                period=humanize.period(one.period_starts_at, one.period_ends_at),
                runs=one.status in RUNNING,
            )
            for one in subscriptions
        ),
        doubled=tuple(name for one in twins for name in one.subscriptions),
    )


def _cards(found: Customer, catalog: Catalog, where: tzinfo, now: datetime) -> tuple[tuple[UsageCard, ...], str]:
    """The live figures; none, and why, while they cannot be read."""
    metering = current_metering()
    try:
        summary, bill = metering.summary(found.key), metering.estimate(found.key)
    except MeteringError as error:
        return (), error.message
    used = [one for one in summary.meters if one.used or one.held or one.limit is not None]
    costs = presenters.overage_costs(bill)
    outlook = Outlook(summary.period, history_of(found.id, found.key, found.timezone), where, now)
    return tuple(presenters.usage_card(catalog, summary.plan, one, costs.get(one.meter), outlook) for one in used), ""
