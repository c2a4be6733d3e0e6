"""The errors of the product: each a type with a stable `code` and the facts of the case.

Which HTTP status an error becomes is decided in `api/problems.py` alone.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any


class MeteringError(Exception):
    """The root of all errors of our own. `code` is stable; `facts` are safe to show to the caller."""

    code = "error"

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts


class ConfigurationError(MeteringError):
    """A setting, or the catalog, is wrong: the product refuses to start."""

    code = "configuration"


class InvalidUsage(MeteringError):
    """The usage that was handed in cannot be recorded as it is; nothing was recorded."""

    code = "invalid-usage"


class BadQuantity(InvalidUsage):
    """A quantity that is negative, not finite, too precise for its meter or too large."""

    code = "bad-quantity"


class UnknownMeter(InvalidUsage):
    code = "unknown-meter"


class UndeclaredMeter(InvalidUsage):
    """A call used a meter for which it reserved nothing, so no limit could have held it back."""

    code = "undeclared-meter"


class InvalidQuery(MeteringError):
    """What was asked of the stored usage cannot be answered as it stands; `facts` name the limit that it passes."""

    code = "invalid-query"


class UnknownCustomer(MeteringError):
    code = "unknown-customer"


class UsageConflict(MeteringError):
    """The identity of an event is taken by an event that says something else."""

    code = "usage-conflict"


class LimitExceeded(MeteringError):
    """A hard limit would be passed. Nothing was consumed."""

    code = "limit-exceeded"

    def __init__(self, message: str, *, resets_at: datetime | None, **facts: Any) -> None:
        super().__init__(message, resets_at=resets_at, **facts)
        self.resets_at = resets_at


class RateLimited(MeteringError):
    """Calls come faster than the plan allows. Nothing was consumed. `retry_after` is in seconds."""

    code = "rate-limited"

    def __init__(self, message: str, *, retry_after: Decimal, **facts: Any) -> None:
        super().__init__(message, retry_after=retry_after, **facts)
        self.retry_after = retry_after


class NotAuthenticated(MeteringError):
    """No API key, or one that is unknown, revoked or expired."""

    code = "not-authenticated"


class NotPermitted(MeteringError):
    """The key is good, but does not carry the scope that is asked for; or the customer may not be served."""

    code = "not-permitted"


class NotFound(MeteringError):
    code = "not-found"


class Conflict(MeteringError):
    """Someone else has, or is doing, what was asked for."""

    code = "conflict"


class IdempotencyRunning(Conflict):
    """A request with this Idempotency-Key is still running."""

    code = "idempotency-running"


class IdempotencyMismatch(MeteringError):
    """The Idempotency-Key was used for another request."""

    code = "idempotency-mismatch"


class IntakeUnavailable(MeteringError):
    """The intake cannot decide right now: Redis is away, or its counters are being rebuilt."""

    code = "intake-unavailable"
