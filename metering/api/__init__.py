"""The HTTP API: JSON and problem details, callers known by their API keys."""

from metering.api.alerts import blueprint as alerts
from metering.api.customers import blueprint as customers
from metering.api.entitlements import blueprint as entitlements
from metering.api.events import blueprint as events
from metering.api.invoices import blueprint as invoices
from metering.api.keys import blueprint as keys
from metering.api.members import blueprint as members
from metering.api.meter_query import blueprint as meter_query
from metering.api.meters import blueprint as meters
from metering.api.reference import blueprint as reference
from metering.api.reference import problems
from metering.api.reservations import blueprint as reservations
from metering.api.sample import blueprint as sample
from metering.api.stored_events import blueprint as stored_events
from metering.api.usage import blueprint as usage

BLUEPRINTS = (
    *(events, stored_events, meters, meter_query, usage, entitlements, reservations),
    *(customers, keys, members, alerts, invoices, sample, reference, problems),
)
