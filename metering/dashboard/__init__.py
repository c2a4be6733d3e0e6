"""The pages: for users of a customer, rendered on the server, alive by htmx partials."""

from metering.dashboard import (
    bill,
    keys,
    plan,
    plan_confirm,
    quickstart,
    usage,
)  # whose pages stand on the overview's blueprint
from metering.dashboard.login import blueprint as accounts
from metering.dashboard.overview import blueprint as dashboard

__all__ = ["BLUEPRINTS", "bill", "keys", "plan", "plan_confirm", "quickstart", "usage"]

BLUEPRINTS = (dashboard, accounts)
