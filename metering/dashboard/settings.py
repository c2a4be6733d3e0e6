"""The settings of a customer: its name and its time zone. Members see them; owners and admins change them."""

from functools import lru_cache
from zoneinfo import available_timezones

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from metering import humanize
from metering.accounts.customers import InvalidCustomer, change_customer
from metering.billing.rhythm import UnknownTimeZone, zone
from metering.dashboard import presenters
from metering.dashboard.access import Access, current_metering, customer_page, require_settings_manager
from metering.dashboard.account_forms import SettingsForm
from metering.dashboard.changing import changing
from metering.dashboard.overview import blueprint
from metering.errors import IntakeUnavailable

__all__ = ["blueprint"]

NO_PLACES = ("Etc/", "SystemV/", "US/", "Brazil/", "Canada/", "Chile/", "Mexico/")
"""Old names of zones that have better ones."""


@lru_cache(maxsize=1)
def time_zones() -> tuple[str, ...]:
    """What is offered: places, and UTC. Whatever else the IANA database knows is taken, too."""
    places = (name for name in available_timezones() if "/" in name and not name.startswith(NO_PLACES))
    return ("UTC", *sorted(places))


@blueprint.route("/c/<customer_key>/settings", methods=["GET", "POST"])
@customer_page
def settings(access: Access) -> ResponseReturnValue:
    if request.method == "GET":
        return _page(access, SettingsForm(formdata=None, name=access.customer_name, timezone=access.timezone))
    require_settings_manager(access)
    form = SettingsForm()
    if not form.validate_on_submit():
        return _page(access, form), 422
    name, timezone = form.name.data, form.timezone.data or access.timezone
    try:
        with changing(access) as change:
            change_customer(change.session, change.customer, name=name, timezone=timezone)
            change.note("customer.change", change.customer, name=name, timezone=timezone)
    except UnknownTimeZone:
        form.timezone.errors = ["There is no such time zone. Choose one of the list, such as Europe/Berlin."]
        return _page(access, form), 422
    except InvalidCustomer:
        form.name.errors = ["Plain characters only."]
        return _page(access, form), 422
    flash("Saved.", "success")
    return redirect(url_for("dashboard.settings", customer_key=access.customer_key), 303)


def _page(access: Access, form: SettingsForm) -> str:
    """Raises IntakeUnavailable while PostgreSQL is away."""
    if access.remembered:
        raise IntakeUnavailable("the database does not answer")
    runtime = current_metering().runtime
    return render_template(
        "dashboard/settings.html",
        customer_key=access.customer_key,
        name=access.customer_name,
        timezone=access.timezone,
        local_time=humanize.moment(runtime.clock(), zone(access.timezone)),
        currency=runtime.catalog.currency.upper(),
        zones=time_zones(),
        form=form,
        may_change=access.may_change_settings,
        shell=presenters.shell(access),
    )
