"""Looking at processes that tests start and kill, and finding them ports."""

import contextlib
import random
import socket
from pathlib import Path

PORTS = range(10_000, 30_000)
"""Below those that the kernel hands out by itself: one of these stays free when nothing listens for a while."""


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and waits for its parent to notice does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def free_ports(count: int = 1) -> int:
    """A port of loopback that is free, and those that follow it."""
    while True:
        first = random.randrange(PORTS.start, PORTS.stop - count)
        with contextlib.suppress(OSError), contextlib.ExitStack() as open_ones:
            for port in range(first, first + count):
                open_ones.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
