"""Usage metering, limits and billing, embedded in Flask. This is the public API; everything else may change.

create_app  the product as a service of its own
Metering    metering inside somebody's Flask app, and the Python service behind it
metered     the decorator for an endpoint
usage       what the running call uses
"""

from metering.app import create_app
from metering.metered import metered, usage
from metering.service import Metering

__all__ = ["Metering", "create_app", "metered", "usage"]
