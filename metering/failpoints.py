"""Named places at which a test can have a process killed, to prove that nothing is lost or counted twice there.

`METERING_FAILPOINT=name:nth[:pid]` sends SIGKILL, on the nth visit of that place, to this process or to `pid`.
Without the variable a visit costs one comparison.
"""

import itertools
import os
import signal


class _Armed:
    """A place, the visit that is the last one, and whose: threads may visit at once, and exactly one of them kills."""

    def __init__(self, failpoint: str) -> None:
        self.name, nth, *victim = failpoint.split(":")
        self._nth = int(nth)
        self._victim = int(victim[0]) if victim else None
        self._visits = itertools.count(1)

    def visit(self) -> None:
        if next(self._visits) == self._nth:
            os.kill(self._victim or os.getpid(), signal.SIGKILL)


def arm(failpoint: str | None) -> None:
    """Arm this process as the variable would, or disarm it."""
    global _armed
    _armed = _Armed(failpoint) if failpoint else None


def visit(name: str) -> None:
    if (armed := _armed) is not None and armed.name == name:
        armed.visit()


_armed: _Armed | None = None
arm(os.environ.get("METERING_FAILPOINT"))
