"""The call that runs now, and `usage`, by which a view reports to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from metering.calls.call import Call

_current: ContextVar[Call | None] = ContextVar("metering_call", default=None)


@contextmanager
def running(call: Call) -> Iterator[None]:
    """Make `call` the current one for the block."""
    mark = _current.set(call)
    try:
        yield
    finally:
        _current.reset(mark)


class Usage:
    """What the running call uses. Outside of a metered call, and with METERING_ENABLED=false, nothing happens."""

    @property
    def customer(self) -> str | None:
        """The key of the customer that is billed for this call."""
        call = _current.get()
        return (call.customer or None) if call else None

    def set(self, meter: str, quantity: Any) -> None:
        """The real figure of a declared meter, in its unit. Raises UndeclaredMeter, BadQuantity."""
        call = _current.get()
        if call:
            call.set(meter, quantity)

    def add(self, meter: str, quantity: Any) -> None:
        """More of a declared meter, in its unit. Raises UndeclaredMeter, BadQuantity."""
        call = _current.get()
        if call:
            call.add(meter, quantity)
