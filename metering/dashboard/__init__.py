"""The pages: for users of a customer, rendered on the server, alive by htmx partials."""

from metering.dashboard import (  # whose pages stand on the overview's blueprint
    alerts,
    keys,
    plan,
    quickstart,
    usage,
    webhooks,
)
from metering.dashboard.login import blueprint as accounts
from metering.dashboard.overview import blueprint as dashboard

__all__ = ["BLUEPRINTS", "alerts", "keys", "plan", "quickstart", "usage", "webhooks"]

BLUEPRINTS = (dashboard, accounts)
