"""Locks that outlive the process that took them, and who holds them.

A lock taken with flock belongs to the open file, and a child that inherits that file keeps it: so a
server started with the file open, and everything it forks, hold the lock until the last of them is
gone. Unlike a number in a pid file it can't go stale, nor name somebody else's process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType


def polling(seconds: float) -> Iterator[None]:
    """Yield at once, then in short, growing pauses until the time is up."""
    deadline = time.monotonic() + seconds
    pause = 0.005
    yield
    while time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
        yield


class Lock:
    """An open lock file. Leaving the context closes our copy; whoever inherited it goes on holding the lock."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Lock:
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self.fd)

    def take(self, seconds: float = 0) -> bool:
        """Whether the lock became ours within that time."""
        for _ in polling(seconds):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
        return False

    def wait(self) -> None:
        """Wait for the lock for as long as it takes: for locks that are only held for a start or a stop."""
        fcntl.flock(self.fd, fcntl.LOCK_EX)

    def holders(self, commands: frozenset[str]) -> dict[int, int]:
        """Process id → parent's process id of the running commands of these names that have the lock file open.

        The name matters: a process forked by another thread of ours holds a copy of every open file for a moment.
        """
        found = _open_in_proc(self.path, commands) if sys.platform == "linux" else _open_by_lsof(self.path, commands)
        found.pop(os.getpid(), None)
        return found


def _open_in_proc(path: Path, commands: frozenset[str]) -> dict[int, int]:
    wanted = path.stat()
    return {
        int(process.name): _parent(process)
        for process in Path("/proc").iterdir()
        if process.name.isdigit() and _command(process) in commands and _has_open(process, wanted)
    }


def _command(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:  # it is gone
        return ""


def _parent(process: Path) -> int:
    with contextlib.suppress(OSError):
        for line in (process / "status").read_text().splitlines():
            if line.startswith("PPid:"):
                return int(line.split()[1])
    return 0


def _has_open(process: Path, wanted: os.stat_result) -> bool:
    # Compared by inode, not by name: the folder may have been renamed since the server started.
    with contextlib.suppress(OSError):
        for entry in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                if os.path.samestat(entry.stat(), wanted):
                    return True
    return False


def _open_by_lsof(path: Path, commands: frozenset[str]) -> dict[int, int]:
    lsof = shutil.which("lsof")
    if lsof is None:
        return {}
    # One field a line: p(id), R(parent's id), c(ommand).
    listed = subprocess.run([lsof, "-FpRc", "--", str(path)], capture_output=True, text=True, check=False)  # noqa: S603
    found: dict[int, int] = {}
    pid = parent = 0
    for line in listed.stdout.splitlines():
        if line.startswith("p"):
            pid = int(line[1:])
        elif line.startswith("R"):
            parent = int(line[1:])
        elif line.startswith("c") and line[1:] in commands:
            found[pid] = parent
    return found
