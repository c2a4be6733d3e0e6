"""Named places at which a test can have a process killed, to prove that nothing is lost or counted twice there.

`METERING_FAILPOINT=name:nth[:pid]` sends SIGKILL, on the nth visit of that place, to this process or to `pid`.
Without the variable a visit costs one comparison.
"""

import os
import signal

_armed = os.environ.get("METERING_FAILPOINT")
_visits = 0


def arm(failpoint: str | None) -> None:
    """Arm this process as the variable would, or disarm it."""
    global _armed, _visits
    _armed, _visits = failpoint, 0


def visit(name: str) -> None:
    if _armed is not None:
        _maybe_kill(name, _armed)


def _maybe_kill(name: str, armed: str) -> None:
    global _visits
    wanted, nth, *victim = armed.split(":")
    if name != wanted:
        return
    _visits += 1
    if _visits == int(nth):
        os.kill(int(victim[0]) if victim else os.getpid(), signal.SIGKILL)
