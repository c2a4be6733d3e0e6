"""The pages: for users of a customer, rendered on the server, alive by htmx partials."""

from metering.dashboard import keys as keys  # noqa: PLC0414 - adds its pages to the blueprint
from metering.dashboard.login import blueprint as accounts
from metering.dashboard.overview import blueprint as dashboard

BLUEPRINTS = (dashboard, accounts)
