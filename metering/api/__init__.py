"""The HTTP API: JSON and problem details, callers known by their API keys."""

from metering.api.alerts import blueprint as alerts
from metering.api.customers import blueprint as customers
from metering.api.keys import blueprint as keys
from metering.api.members import blueprint as members
from metering.api.meters import blueprint as meters
from metering.api.sample import blueprint as sample
from metering.api.usage import blueprint as usage

BLUEPRINTS = (usage, meters, customers, keys, members, alerts, sample)
