"""Faults armed through `/_standin/faults`, for the next matching requests. They live in memory: a restart lifts them.

`reset`         the connection is reset; nothing was recorded
`rate_limit`    429 with `Stripe-Rate-Limited-Reason`; nothing was recorded
`outage`        503, until lifted unless a number of times is given; nothing was recorded
`slow`          waits for `seconds`, then goes on as usual
`error_500`     500, `when` before or after the changes were recorded; kept under the idempotency key, as Stripe does
`drop_answer`   everything is recorded, then the connection closes without an answer

A request meets the first armed fault that matches it, and no other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from metering.stripe_sync.standin.errors import ApiError, DroppedConnectionError, server_error
from metering.stripe_sync.standin.params import Pairs


@dataclass(frozen=True)
class Fault:
    """What to do, and to which requests. `params` are compared as they stand in the form: `payload[value]`."""

    kind: str
    method: str | None = None
    path: str | None = None
    params: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    reason: str = "global-rate"
    when: str = "before"
    should_retry: bool | None = None

    def __post_init__(self) -> None:
        if self.kind not in _ARRIVAL:
            raise ValueError(f"kind: must be one of {', '.join(sorted(_ARRIVAL))}")
        if self.when not in ("before", "after"):
            raise ValueError("when: must be before or after")
        if not isinstance(self.params, dict):
            raise ValueError("params: must be an object of form names and values")
        if self.seconds < 0:
            raise ValueError("seconds: must not be negative")

    def matches(self, method: str, path: str, pairs: Pairs) -> bool:
        sent = dict(pairs)
        return (
            self.method in (None, method)
            and self.path in (None, path)
            and all(sent.get(name) == value for name, value in self.params.items())
        )

    def on_arrival(self) -> None:
        """Before the request is looked at: nothing is recorded, no answer is kept."""
        _ARRIVAL[self.kind](self)

    def on_run(self, moment: str) -> None:
        """While an endpoint runs: `before` its changes or `after` them."""
        if self.kind == "error_500" and self.when == moment:
            raise self.with_retry_hint(server_error())

    def on_answer(self) -> None:
        """After everything was recorded, in place of the answer."""
        if self.kind == "drop_answer":
            raise DroppedConnectionError(reset=False)

    def with_retry_hint(self, error: ApiError) -> ApiError:
        if self.should_retry is not None:
            error.headers["Stripe-Should-Retry"] = str(self.should_retry).lower()
        return error


NO_FAULT_KIND = "none"


def _pass(_: Fault) -> None:
    return None


def _reset(_: Fault) -> None:
    raise DroppedConnectionError(reset=True)


def _rate_limit(fault: Fault) -> None:
    raise fault.with_retry_hint(
        ApiError(
            "Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits.",
            status=429,
            code="rate_limit",
            headers={"Stripe-Rate-Limited-Reason": fault.reason},
        )
    )


def _outage(fault: Fault) -> None:
    raise fault.with_retry_hint(ApiError("Stripe is temporarily unavailable.", status=503, kind="api_error"))


_ARRIVAL: dict[str, Callable[[Fault], None]] = {
    NO_FAULT_KIND: _pass,
    "drop_answer": _pass,
    "error_500": _pass,
    "outage": _outage,
    "rate_limit": _rate_limit,
    "reset": _reset,
    "slow": lambda fault: time.sleep(fault.seconds),
}

NO_FAULT = Fault(NO_FAULT_KIND)


class Faults:
    """The armed faults, oldest first, each with how many requests it still waits for (None: until lifted)."""

    def __init__(self) -> None:
        self._armed: list[tuple[Fault, int | None]] = []
        self._lock = threading.Lock()

    def arm(self, fault: Fault, times: int | None) -> None:
        with self._lock:
            self._armed.append((fault, times))

    def lift(self) -> None:
        with self._lock:
            self._armed.clear()

    def take(self, method: str, path: str, pairs: Pairs) -> Fault:
        """The fault this request meets, or NO_FAULT."""
        with self._lock:
            for place, (fault, times) in enumerate(self._armed):
                if fault.matches(method, path, pairs):
                    if times == 1:
                        del self._armed[place]
                    elif times is not None:
                        self._armed[place] = (fault, times - 1)
                    return fault
        return NO_FAULT

    def listing(self) -> list[dict[str, Any]]:
        with self._lock:
            return [{**vars(fault), "times": times} for fault, times in self._armed]
