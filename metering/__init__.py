"""Usage metering, limits and billing, embedded in Flask. This is the public API; everything else may change.

create_app  the product as a service of its own
Metering    metering inside somebody's Flask app, and the Python service behind it
metered     the decorator for an endpoint
usage       what the running call uses
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from metering.metered import metered, usage

if TYPE_CHECKING:
    from metering.app import create_app
    from metering.service import Metering

__all__ = ["Metering", "create_app", "metered", "usage"]

# Taken in when they are asked for: a worker needs no pages, and the Stripe stand-in nothing of either.
_LATER = {"create_app": "metering.app", "Metering": "metering.service"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)
