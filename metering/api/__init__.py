"""The HTTP API: JSON and problem details, callers known by their API keys."""

from metering.api.reference import blueprint as reference
from metering.api.reference import problems
from metering.api.sample import blueprint as sample
from metering.api.usage import blueprint as usage

BLUEPRINTS = (usage, sample, reference, problems)
