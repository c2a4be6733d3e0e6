"""The overview of a customer, and its parts for those who keep the page open."""

from typing import cast

from flask import Blueprint, Flask, make_response, redirect, render_template, url_for
from flask.sansio.blueprints import BlueprintSetupState
from flask.typing import ResponseReturnValue

from metering.billing.estimate import Estimate
from metering.dashboard import activity, notices, presenters, static_files
from metering.dashboard.access import Access, current_metering, customer_page, logged_in_user
from metering.dashboard.figures import Figures, from_database, read_estimate, read_figures, read_used_before
from metering.dashboard.fragments import fragment
from metering.dashboard.frame import last_customer
from metering.dashboard.history import Histories, History, expected_bill, read_history
from metering.dashboard.remembered import Remembered
from metering.dashboard.view_models import AlertsView, UsageView
from metering.extensions import login
from metering.limits.fired import current_alerts
from metering.limits.thresholds import own_thresholds

blueprint = Blueprint("dashboard", __name__)


@blueprint.record_once
def _prepare(state: BlueprintSetupState) -> None:
    """What belongs to one app, not to this module."""
    state.app.extensions["metering_dashboard_memory"] = Remembered()
    state.app.extensions["metering_dashboard_histories"] = Histories()
    static_files.version(cast(Flask, state.app))


@blueprint.get("/", endpoint="overview", defaults={"customer_key": None})
@blueprint.get("/c/<customer_key>/", endpoint="overview")
def overview(customer_key: str | None) -> ResponseReturnValue:
    return home() if customer_key is None else customer_overview(customer_key=customer_key)


def home() -> ResponseReturnValue:
    """The customer that a user was last on; a page that helps where there is none."""
    user = logged_in_user()
    if user is None:
        answer: ResponseReturnValue = login.unauthorized()
        return answer
    key = last_customer(user)
    if key is None:
        return redirect(url_for("dashboard.customers"))
    return redirect(url_for("dashboard.overview", customer_key=key))


@customer_page
def customer_overview(access: Access) -> ResponseReturnValue:
    figures, bill, history = read_figures(access), read_estimate(access), read_history(access)
    view = presenters.overview(
        access,
        current_metering().runtime.catalog,
        figures,
        usage=_usage(access, figures, bill, history),
        alerts=_alerts(access, figures),
        estimate=presenters.estimate_view(access, bill, expected_bill(figures, bill, history)),
        activity=activity.read(access),
    )
    return render_template("dashboard/overview.html", view=view, shell=presenters.shell(access))


@blueprint.get("/c/<customer_key>/live/usage")
@customer_page
def usage_cards(access: Access) -> ResponseReturnValue:
    view = _usage(access, read_figures(access), read_estimate(access), read_history(access))
    return fragment(view) or make_response(render_template("dashboard/partials/usage_cards.html", usage=view))


@blueprint.get("/c/<customer_key>/live/alerts")
@customer_page
def live_alerts(access: Access) -> ResponseReturnValue:
    view = _alerts(access, read_figures(access))
    return fragment(view) or make_response(render_template("dashboard/partials/alerts.html", alerts=view))


@blueprint.get("/c/<customer_key>/live/estimate")
@customer_page
def estimate(access: Access) -> ResponseReturnValue:
    figures, bill, history = read_figures(access), read_estimate(access), read_history(access)
    view = presenters.estimate_view(access, bill, expected_bill(figures, bill, history))
    return fragment(view) or make_response(render_template("dashboard/partials/estimate.html", estimate=view))


@blueprint.get("/c/<customer_key>/live/activity")
@customer_page
def live_activity(access: Access) -> ResponseReturnValue:
    view = activity.read(access)
    return fragment(view) or make_response(render_template("dashboard/partials/activity.html", activity=view))


def _usage(access: Access, figures: Figures, bill: Estimate | None, history: History | None) -> UsageView:
    runtime = current_metering().runtime
    return presenters.usage_view(
        access,
        runtime.catalog,
        figures,
        bill,
        history,
        started=figures.used_anything or read_used_before(access),
        now=runtime.clock(),
    )


def _alerts(access: Access, figures: Figures) -> AlertsView:
    metering = current_metering()
    now = metering.runtime.clock()
    return notices.alerts_view(
        access,
        metering.runtime.catalog,
        figures,
        from_database(
            lambda session: notices.Written(
                current_alerts(session, access.customer_id, now=now), own_thresholds(session, access.customer_id)
            )
        ),
        on_outage=metering.settings.on_outage,
        now=now,
    )
