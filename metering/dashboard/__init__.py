"""The pages: for users of a customer, rendered on the server, alive by htmx partials."""

from metering.dashboard.keys import blueprint as dashboard  # with all of its pages: the overview's, then the keys'
from metering.dashboard.login import blueprint as accounts

BLUEPRINTS = (dashboard, accounts)
