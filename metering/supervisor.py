"""The small foreground supervisor behind `make run`: starts commands, shows their output, and stops them together.

What always holds: when one command ends, or we are told to stop, all end, with their whole process
groups; and when we are killed without a chance to do that, a guard does it, so that nothing is left
holding a port.

honcho prints the lines. Its Manager is not used, because each of its children hangs below a process that
ignores SIGTERM and survives the manager's death, and because it waits for ever when told to stop children
that all ignore SIGTERM.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import FrameType
from typing import TextIO

from honcho.colour import get_colours
from honcho.printer import Message, Printer

STOP_SECONDS = 10.0
POLL_SECONDS = 0.1
LAST_READS = 1000  # of what ended commands left to be shown; one that got away may go on writing
NOT_FOUND = 127  # as a shell answers
STOPPED_BY = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Reads process groups until its input ends. `done` is the good end; without it we were killed, and the groups with us.
GUARD = """
while read -r group; do
    [ "$group" = done ] && exit 0
    groups="$groups -$group"
done
[ -n "$groups" ] || exit 0
kill -s TERM -- $groups
sleep 1
kill -s KILL -- $groups
"""


@dataclass(frozen=True)
class Command:
    """One program to run; `env` is added to our own environment."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)


def supervise(commands: Sequence[Command], output: TextIO | None = None, stop_seconds: float = STOP_SECONDS) -> int:
    """Run the commands until one ends or SIGINT, SIGTERM or SIGHUP arrives; then stop all and return an exit status.

    0 when we were told to stop; otherwise the status of the command that ended first, 128 + n if by signal n, and 1 if
    it ended with 0, because none is meant to end. A second signal kills at once. To be called in the main thread.
    """
    with _Guard() as guard, _Signals() as signals:
        return _Supervisor(commands, output or sys.stdout, guard, signals).run(stop_seconds)


class _Signals:
    """Counts the requests to stop instead of being interrupted by them."""

    count = 0

    def __enter__(self) -> _Signals:
        # What is ignored already stays so: that is how nohup keeps a command running.
        heard = [number for number in STOPPED_BY if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._note) for number in heard}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1


class _Guard:
    """A shell that ends our process groups when we end without having said `done`."""

    def __enter__(self) -> _Guard:
        reading, self._writing = os.pipe()
        # A session of its own: a Ctrl-C must not take the guard away.
        self._shell = subprocess.Popen(  # noqa: S603 - a constant
            ["/bin/sh", "-c", GUARD],
            stdin=reading,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(reading)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._writing, b"done\n")
        os.close(self._writing)
        self._shell.wait()

    def announce(self) -> None:
        """Called in the child before it becomes the command: there is no moment in which it runs unguarded."""
        os.write(self._writing, b"%d\n" % os.getpid())


@dataclass
class _Child:
    name: str
    colour: str
    process: subprocess.Popen[bytes]
    unfinished: bytes = b""

    @property
    def output(self) -> int:
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def read(self) -> list[bytes] | None:
        """The whole lines that came; None at the end of the output."""
        read = os.read(self.output, 65536)
        if not read:
            return None
        *whole, self.unfinished = (self.unfinished + read).split(b"\n")
        return whole

    def send(self, number: int) -> bool:
        """Signal the whole group; False when nobody is left in it. 0 only asks."""
        self.process.poll()  # or its zombie would count as somebody
        try:
            os.killpg(self.process.pid, number)
        except (ProcessLookupError, PermissionError):  # macOS answers the latter for a group of zombies
            return False
        return True


class _Supervisor:
    def __init__(self, commands: Sequence[Command], output: TextIO, guard: _Guard, signals: _Signals) -> None:
        self._commands = commands
        self._printer = Printer(output, width=max(len(name) for name in ["system", *(c.name for c in commands)]))
        self._guard = guard
        self._signals = signals
        self._children: list[_Child] = []
        self._selector = selectors.DefaultSelector()

    def run(self, stop_seconds: float) -> int:
        try:
            status = self._start() or self._watch()
        finally:
            self._stop(stop_seconds)
            self._close()
        return status

    def _start(self) -> int:
        for command, colour in zip(self._commands, get_colours(), strict=False):
            try:
                process = self._spawn(command)
            except OSError as error:
                self._say(f"can't start {command.name}: {error.strerror}: {command.argv[0]}")
                return NOT_FOUND
            child = _Child(command.name, colour, process)
            self._children.append(child)
            self._selector.register(child.output, selectors.EVENT_READ, child)
            self._say(f"{child.name} started (pid {process.pid})")
        return 0

    def _spawn(self, command: Command) -> subprocess.Popen[bytes]:
        # A session of its own: at a Ctrl-C the terminal signals us alone, and we stop the commands in our way.
        return subprocess.Popen(  # noqa: S603 - running what we are given is what this is for
            list(command.argv),
            env=os.environ | command.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=self._guard.announce,
        )

    def _watch(self) -> int:
        while not self._signals.count:
            self._show(POLL_SECONDS)
            for child in self._children:
                status = child.process.poll()
                if status is not None:
                    self._say(f"{child.name} ended with status {status}")
                    return 128 - status if status < 0 else status or 1
        return 0

    def _stop(self, seconds: float) -> None:
        asked = self._signals.count
        deadline = time.monotonic() + seconds
        left = [child for child in self._children if child.send(signal.SIGTERM)]
        if left:
            self._say("stopping")
        while left := [child for child in left if child.send(0)]:
            if time.monotonic() > deadline or self._signals.count > asked:
                self._kill(left)
                break
            self._show(POLL_SECONDS)
        for _ in range(LAST_READS):
            if not self._show(0):
                break

    def _kill(self, children: list[_Child]) -> None:
        for child in children:
            self._say(f"killing {child.name}")
            child.send(signal.SIGKILL)
            child.process.wait()

    def _show(self, seconds: float) -> bool:
        """Print what comes next, waiting for it that long; whether something came."""
        if not self._selector.get_map():
            time.sleep(seconds)
        ready = self._selector.select(seconds)
        for key, _ in ready:
            child: _Child = key.data
            lines = child.read()
            if lines is None:
                self._selector.unregister(key.fd)
                lines = [child.unfinished] if child.unfinished else []
            for line in lines:
                self._print(child.name, child.colour, line)
        return bool(ready)

    def _say(self, text: str) -> None:
        self._print("system", None, text.encode())

    def _print(self, name: str, colour: str | None, line: bytes) -> None:
        # A terminal that went away must not keep us from stopping the commands.
        with contextlib.suppress(OSError):
            self._printer.write(Message("line", line, datetime.now().astimezone(), name, colour))

    def _close(self) -> None:
        self._selector.close()
        for child in self._children:
            if child.process.stdout is not None:
                child.process.stdout.close()
