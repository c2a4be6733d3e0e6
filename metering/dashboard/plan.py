"""The plan of a customer: what there is to choose, and buying it at Stripe.

Money is handled on Stripe's pages alone. What was bought there takes effect when Stripe's message comes; until then the
page that Stripe leads back to looks for it every two seconds, or when it is loaded again.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from urllib.parse import urljoin

import structlog
from flask import Response, flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from metering.accounts.customers import find_customer
from metering.accounts.in_force import put_in_force
from metering.billing.estimate import Estimate, estimates
from metering.billing.rhythm import zone
from metering.catalog import Catalog
from metering.dashboard import plan_views, presenters
from metering.dashboard.access import Access, current_metering, customer_page, require_plan_manager
from metering.dashboard.figures import read_figures, stored_period
from metering.dashboard.overview import blueprint
from metering.errors import ConfigurationError, Conflict, IntakeUnavailable, UnknownCustomer
from metering.extensions import db
from metering.models import AuditEntry, Customer, StripeSubscription
from metering.runtime import Runtime
from metering.service import MeterUsage
from metering.stripe_sync import hosted, single
from metering.stripe_sync.customers import find_or_create
from metering.stripe_sync.gateway import StripeApi, StripeFailed
from metering.stripe_sync.mirror import lock_object
from metering.stripe_sync.processing import mirror_now
from metering.stripe_sync.reporting import gateway_for

STRIPE_PAGES = ("https://checkout.stripe.com", "https://billing.stripe.com")
OFF = "Plans are not sold here: whoever runs this service changes yours."
AWAY = "Stripe does not answer at the moment, so nothing can be bought or changed."

log = structlog.get_logger("metering.dashboard")


@dataclass(frozen=True, slots=True)
class Buyer:
    """Who changes a plan, and what that takes."""

    access: Access
    runtime: Runtime
    customer: Customer
    api: StripeApi
    subscription: StripeSubscription | None

    @property
    def running(self) -> StripeSubscription:
        """Raises Conflict where none runs."""
        if self.subscription is None:
            raise Conflict("no subscription runs")
        return self.subscription

    @property
    def actor(self) -> str:
        """Who the audit log names."""
        return f"user:{self.access.user.email}"

    def note(self, action: str, **detail: str) -> None:
        """Write down what was done at Stripe, and who did it."""
        entry = {"at": self.runtime.clock(), "actor": self.actor, "action": action, "detail": detail}
        db.session.add(AuditEntry(customer_id=self.customer.id, **entry))
        db.session.commit()


@blueprint.get("/c/<customer_key>/plan")
@customer_page
def plan(access: Access) -> ResponseReturnValue:
    view = _view(access)
    g.form_targets = _form_targets(current_metering().runtime)
    return render_template(
        "dashboard/plan.html",
        view=view,
        shell=presenters.shell(access),
    )


@blueprint.get("/c/<customer_key>/plan/status")
@customer_page
def plan_status(access: Access) -> ResponseReturnValue:
    """The part that waits for Stripe's message. Once it has come the whole page is another: menu, limits, invoices."""
    if _view(access).waiting:
        return Response(status=204)
    return Response(status=204, headers={"HX-Redirect": url_for("dashboard.plan", customer_key=access.customer_key)})


Action = Callable[[Buyer], ResponseReturnValue]


def buying(action: Action) -> Callable[..., ResponseReturnValue]:
    """A change of the plan, or the page that asks whether it is meant: for owners and admins alone, and back to the
    plan page with a word where it cannot be done.
    """

    @wraps(action)
    @customer_page
    def guarded(access: Access) -> ResponseReturnValue:
        if request.method == "GET" and not access.may_manage_plan:
            return _back(access)
        require_plan_manager(access)
        runtime = current_metering().runtime
        try:
            if runtime.settings.stripe == "off":
                raise Conflict(OFF)
            api, customer = gateway_for(runtime.settings), _customer(access)
            subscription = hosted.current_subscription(db.session(), api, customer)
            return action(Buyer(access, runtime, customer, api, subscription))
        except (StripeFailed, ConfigurationError, Conflict) as error:
            db.session.rollback()
            log.warning("plan_not_changed", customer=access.customer_key, reason=error.message)
            flash(f"{error.message[:1].upper()}{error.message[1:]}." if isinstance(error, Conflict) else AWAY, "error")
            return _back(access)

    return guarded


@blueprint.post("/c/<customer_key>/plan/checkout")
@buying
def plan_checkout(buyer: Buyer) -> ResponseReturnValue:
    wanted = wanted_plan(buyer)
    customer, now = buyer.customer, buyer.runtime.clock()
    find_or_create(db.session(), buyer.api, customer, now=now, actor=buyer.actor)
    db.session.commit()
    lock_object(db.session(), buyer.api.account, f"checkout of {customer.key}")
    if running := single.running_at_stripe(buyer.api, customer):
        return _bought_before(buyer, running)
    single.close_open_checkouts(buyer.api, customer)
    address = hosted.open_checkout(db.session(), buyer.api, customer, wanted, back=_page_address(buyer.access))
    buyer.note("plan.checkout", plan=wanted)
    return redirect(address, 303)


@blueprint.post("/c/<customer_key>/plan/change")
@buying
def plan_change(buyer: Buyer) -> ResponseReturnValue:
    wanted, running = wanted_plan(buyer), buyer.running
    hosted.change_plan(db.session(), buyer.api, running, wanted)
    buyer.note("plan.change", plan=wanted, subscription=running.stripe_id)
    return _changed(buyer, running, "Your plan is changed.")


@blueprint.post("/c/<customer_key>/plan/portal")
@buying
def plan_portal(buyer: Buyer) -> ResponseReturnValue:
    return redirect(hosted.open_portal(buyer.api, buyer.customer, back=_page_address(buyer.access)), 303)


@blueprint.post("/c/<customer_key>/plan/cancel")
@buying
def plan_cancel(buyer: Buyer) -> ResponseReturnValue:
    running, at_once = buyer.running, request.form.get("when") == "now"
    hosted.cancel(buyer.api, running, at_once=at_once)
    buyer.note("plan.cancel", subscription=running.stripe_id, when="now" if at_once else "period_end")
    said = "Your plan has ended. What was used is billed." if at_once else "Your plan ends with the running period."
    return _changed(buyer, running, said)


@blueprint.post("/c/<customer_key>/plan/resume")
@buying
def plan_resume(buyer: Buyer) -> ResponseReturnValue:
    running = buyer.running
    hosted.resume(buyer.api, running)
    buyer.note("plan.resume", subscription=running.stripe_id)
    return _changed(buyer, running, "Your plan goes on.")


def _bought_before(buyer: Buyer, running: Sequence[str]) -> ResponseReturnValue:
    """Another tab was quicker, and Stripe's message is still on its way."""
    for stripe_id in running:
        mirror_now(buyer.runtime, stripe_id)
    put_in_force(buyer.runtime)
    flash("You have a plan already: it was bought before, and nothing was bought now.", "info")
    return _back(buyer.access)


def _changed(buyer: Buyer, running: StripeSubscription, said: str) -> ResponseReturnValue:
    mirror_now(buyer.runtime, running.stripe_id)
    put_in_force(buyer.runtime)
    flash(said, "success")
    return _back(buyer.access)


def _back(access: Access) -> ResponseReturnValue:
    return redirect(url_for("dashboard.plan", customer_key=access.customer_key), 303)


def _view(access: Access) -> plan_views.PlanView:
    runtime, customer = current_metering().runtime, _customer(access)
    api, note = _stripe(runtime)
    session, catalog = db.session(), runtime.file_catalog
    found = hosted.current_subscription(session, api, customer) if api else None
    twins = single.doubled(session, customer_id=customer.id)
    sold = [key for key in catalog.plans if api and hosted.is_sold(session, api.account, key)]
    return plan_views.PlanView(
        customer_key=access.customer_key,
        plan_name=presenters.plan_name(catalog, customer.plan),
        waiting=request.args.get("checkout") == "done" and found is None,
        subscription=plan_views.subscription_view(found, zone(access.timezone)) if found else None,
        cards=plan_views.plan_cards(
            catalog,
            customer.plan,
            read_used(access),
            read_costs(access, catalog),
            sold=sold,
            subscribed=found is not None,
            may_buy=access.may_manage_plan,
        ),
        may_buy=access.may_manage_plan and api is not None,
        has_payment=customer.stripe_customer_id is not None,
        note=note,
        doubled=plan_views.doubled_text(twins[0].subscriptions) if twins else None,
    )


def read_used(access: Access) -> dict[str, MeterUsage]:
    """What is used now, by meter; nothing while it cannot be read."""
    with suppress(IntakeUnavailable, UnknownCustomer):
        return {one.meter: one for one in read_figures(access).summary.meters}
    return {}


def read_costs(access: Access, catalog: Catalog) -> dict[str, Estimate]:
    """What the usage of the running period comes to on each plan."""
    now, session = current_metering().runtime.clock(), db.session()
    customer = session.get_one(Customer, access.customer_id)
    return estimates(session, catalog, customer, stored_period(session, customer, now), now=now)


def _stripe(runtime: Runtime) -> tuple[StripeApi | None, str | None]:
    """Stripe, or why it is not to be had."""
    if runtime.settings.stripe == "off":
        return None, OFF
    with suppress(StripeFailed, ConfigurationError):
        return gateway_for(runtime.settings), None
    return None, AWAY


def wanted_plan(buyer: Buyer) -> str:
    """Raises Conflict: what is asked for is not sold."""
    wanted = request.values.get("plan", "")
    catalog = buyer.runtime.file_catalog
    if wanted not in catalog.plans or not catalog.plans[wanted].base_fee:
        raise Conflict("This plan is not sold here")
    return wanted


def _customer(access: Access) -> Customer:
    """Raises IntakeUnavailable while PostgreSQL is away."""
    if access.remembered:
        raise IntakeUnavailable("the database does not answer")
    return find_customer(db.session(), access.customer_key)


def _page_address(access: Access) -> str:
    """Of the plan page, as it is seen from outside."""
    base = current_metering().settings.public_url or request.url_root
    return urljoin(base, url_for("dashboard.plan", customer_key=access.customer_key))


def _form_targets(runtime: Runtime) -> tuple[str, ...]:
    settings = runtime.settings
    if settings.stripe == "standin" and settings.stripe_api_base:
        return (settings.stripe_api_base,)
    return STRIPE_PAGES if settings.stripe == "live" else ()
