"""The pages: for users of a customer, rendered on the server, alive by htmx partials."""

# Their pages stand on the blueprints of the overview and of the login.
from metering.dashboard import (
    account,
    alerts,
    bill,
    customers,
    events,
    forgotten,
    joining,
    keys,
    plan,
    plan_confirm,
    quickstart,
    second_step,
    settings,
    signing_up,
    team,
    usage,
    webhooks,
)
from metering.dashboard.login import blueprint as accounts
from metering.dashboard.overview import blueprint as dashboard

__all__ = [
    "BLUEPRINTS",
    "account",
    "alerts",
    "bill",
    "customers",
    "events",
    "forgotten",
    "joining",
    "keys",
    "plan",
    "plan_confirm",
    "quickstart",
    "second_step",
    "settings",
    "signing_up",
    "team",
    "usage",
    "webhooks",
]

BLUEPRINTS = (dashboard, accounts)
