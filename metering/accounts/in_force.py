"""What was committed takes effect: sent to Redis at once, so that it holds in every process within a second.

Call these after the commit. What cannot be sent now, the keeper sends as soon as both servers answer again.
"""

import structlog
from sqlalchemy.exc import SQLAlchemyError

from metering.errors import IntakeUnavailable
from metering.runtime import Runtime
from metering.store import inbox
from metering.store.state import send_unsent

log = structlog.get_logger("metering.accounts")


def put_in_force(runtime: Runtime) -> bool:
    """Send the changed state of customers and keys; False: it is saved, and takes effect later."""
    try:
        with runtime.transaction() as session:
            send_unsent(session, runtime.redis, runtime.catalog, now=runtime.clock())
    except (IntakeUnavailable, SQLAlchemyError) as error:
        log.warning("state_not_sent", error=type(error).__name__)
        return False
    return True


def count_seats(runtime: Runtime) -> bool:
    """Count the seats that members took or left; False: they are recorded, and counted later."""
    window = runtime.settings.identity_window_seconds
    try:
        with runtime.transaction() as session:
            inbox.feed(session, runtime.intake, now=runtime.clock(), identity_window_seconds=window)
    except (IntakeUnavailable, SQLAlchemyError) as error:
        log.warning("seats_not_counted", error=type(error).__name__)
        return False
    return True
