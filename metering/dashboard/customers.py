"""The customers that a user may open, searched by name: where the list in the frame would be too long."""

from flask import render_template, request
from flask.typing import ResponseReturnValue

from metering.accounts.search import search_customers
from metering.accounts.users import customers_of
from metering.dashboard.access import current_metering, customer_ref, user_page
from metering.dashboard.frame import frame_of
from metering.dashboard.overview import blueprint
from metering.dashboard.view_models import CustomerRef
from metering.extensions import db
from metering.models import User

__all__ = ["blueprint"]

MOST_LISTED = 100


@blueprint.get("/customers", endpoint="customers")
@user_page
def customers(user: User) -> ResponseReturnValue:
    text = request.args.get("q", "").strip()
    found = customers_found(user, text)
    return render_template(
        "dashboard/customers.html",
        user=user,
        text=text,
        customers=found[:MOST_LISTED],
        more=len(found) > MOST_LISTED,
        shell=frame_of(user),
    )


def customers_found(user: User, text: str) -> list[CustomerRef]:
    """Those of the user whose name or key holds the text; for operators all that begin with it, too. By name."""
    session, low = db.session(), text.lower()
    mine = (membership.customer for membership in customers_of(session, user))
    found = {one.key: one for one in mine if low in one.name.lower() or low in one.key}
    if user.operator:
        everybody = search_customers(session, text=text, after=None, limit=MOST_LISTED + 1)
        found |= {one.key: one for one in everybody}
    catalog = current_metering().runtime.catalog
    return [customer_ref(catalog, one) for one in sorted(found.values(), key=lambda one: (one.name.lower(), one.key))]
