"""The pages that ask whether a change of the plan is meant, and say what it means."""

from flask import render_template
from flask.typing import ResponseReturnValue

from metering.billing.rhythm import zone
from metering.dashboard import plan_confirm_views, presenters
from metering.dashboard.figures import read_estimate
from metering.dashboard.overview import blueprint
from metering.dashboard.plan import Buyer, buying, read_used, wanted_plan
from metering.errors import Conflict
from metering.stripe_sync.plans import free_plan


@blueprint.get("/c/<customer_key>/plan/change")
@buying
def plan_change_asked(buyer: Buyer) -> ResponseReturnValue:
    wanted, catalog = wanted_plan(buyer), buyer.runtime.file_catalog
    before = catalog.plans.get(buyer.running.plan or buyer.customer.plan)
    if before is None or before.key == wanted:
        raise Conflict("This plan is yours already")
    change = plan_confirm_views.change(
        catalog,
        before,
        catalog.plans[wanted],
        buyer.running,
        read_used(buyer.access),
        where=zone(buyer.access.timezone),
        now=buyer.runtime.clock(),
    )
    return _page("plan_change.html", buyer, change=change)


@blueprint.get("/c/<customer_key>/plan/cancel")
@buying
def plan_cancel_asked(buyer: Buyer) -> ResponseReturnValue:
    catalog = buyer.runtime.file_catalog
    plan = catalog.plans.get(buyer.running.plan or buyer.customer.plan)
    if plan is None:
        raise Conflict("This plan is not sold any more: whoever runs this service ends it")
    cancellation = plan_confirm_views.cancellation(
        catalog,
        plan,
        catalog.plans[free_plan(catalog)],
        buyer.running,
        read_estimate(buyer.access),
        read_used(buyer.access),
        where=zone(buyer.access.timezone),
        now=buyer.runtime.clock(),
    )
    return _page("plan_cancel.html", buyer, cancellation=cancellation)


def _page(template: str, buyer: Buyer, **view: object) -> str:
    return render_template(
        f"dashboard/{template}",
        customer_key=buyer.access.customer_key,
        shell=presenters.shell(buyer.access),
        **view,
    )
