"""What holds for both servers: adopt or start, wait until ready, stop.

What differs between them is in postgres_server and redis_server.
"""

from __future__ import annotations

import os
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from metering.embedded.account import Account
from metering.embedded.errors import EmbeddedError
from metering.embedded.locks import Lock, polling
from metering.embedded.places import Places

Report = Callable[[str], None]

# Recovery after a kill replays the log, which may take long; a server that says it is starting is waited for.
START_SECONDS = 120
# How long each signal is given before the next one, for a server that answers and for one that doesn't.
STOP_SECONDS = 60
SILENT_STOP_SECONDS = 5


@dataclass(frozen=True)
class Health:
    """What the server behind our socket says of itself; `other` means: not the one we would start, and why."""

    state: Literal["ready", "starting", "silent", "other"]
    why: str = ""

    @property
    def answers(self) -> bool:
        return self.state in ("ready", "other")


class Server(ABC):
    """One server on one data folder. Call its methods under the home's lock only."""

    name: ClassVar[str]
    title: ClassVar[str]
    commands: ClassVar[frozenset[str]]
    stop_signals: ClassVar[tuple[signal.Signals, ...]]

    def __init__(self, places: Places, sockets: Path, account: Account, report: Report) -> None:
        self.places = places
        self.sockets = sockets
        self.account = account
        self.report = report
        self.log = places.log / f"{self.name}.log"

    @property
    @abstractmethod
    def data(self) -> Path: ...

    @property
    @abstractmethod
    def url(self) -> str: ...

    @abstractmethod
    def prepare(self, lock: Lock) -> None:
        """Make the data folder ready; nothing runs on it."""

    @abstractmethod
    def command(self) -> list[str]: ...

    @abstractmethod
    def health(self) -> Health: ...

    def environment(self) -> dict[str, str]:
        # Nothing of ours: PG* variables would change the server, and our secrets are not its business.
        kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
        return kept | {"LC_ALL": "C", "TZ": "UTC"}

    def lock(self) -> Lock:
        return Lock(self.places.run / f"{self.name}.lock")

    def ensure(self) -> None:
        """Leave exactly one healthy server with our settings on the data folder."""
        with self.lock() as lock:
            if self._adopt(lock):
                self.report(f"{self.title} is running already")
                return
            self.report(f"starting {self.title}")
            self.prepare(lock)
            self._spawn(lock)
        self._await_ready()

    def _adopt(self, lock: Lock) -> bool:
        """Whether a server that runs can stay. If not, none runs when this returns, and the lock is ours."""
        for _ in polling(START_SECONDS):
            if lock.take():
                return False
            health = self.health()
            if health.state == "ready":
                return True
            if health.state != "starting":
                break
        self.report(f"replacing a {self.title} that {health.why or 'does not answer'}")
        self._end(lock, SILENT_STOP_SECONDS)
        return False

    def _spawn(self, lock: Lock) -> None:
        # The shell exits at once, which makes the server nobody's child: its end leaves no zombie with us,
        # and neither our end nor a Ctrl-C at our terminal (a session of its own) reaches it.
        command = ["/bin/sh", "-c", '"$@" &', "sh", *self.command()]
        with self.places.log_file(self.name).open("ab") as log:
            subprocess.run(  # noqa: S603 - the command is ours
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment(),
                cwd=self.data,
                pass_fds=(lock.fd,),
                start_new_session=True,
                check=True,
            )

    def _await_ready(self) -> None:
        health = Health("silent")
        for _ in polling(START_SECONDS):
            health = self.health()
            if health.state == "ready":
                return
            if not self.is_running():
                raise EmbeddedError.with_log(f"{self.title} ended as soon as it was started on {self.data}.", self.log)
        state = health.why or f"is still {health.state}"
        raise EmbeddedError.with_log(f"{self.title} on {self.data} {state} after {START_SECONDS} s.", self.log)

    def is_running(self) -> bool:
        with self.lock() as lock:
            return not lock.take()

    def pids(self) -> list[int]:
        """The server's main process; several only for a moment, while the children of a killed one are leaving."""
        with self.lock() as lock:
            return _mains(lock.holders(self.commands))

    def stop(self) -> None:
        """End the server that runs on our data folder, if one does, without losing anything."""
        with self.lock() as lock:
            if not lock.take():
                self.report(f"stopping {self.title}")
                self._end(lock, STOP_SECONDS)

    def _end(self, lock: Lock, patience: float) -> None:
        for number in self.stop_signals:
            for pid in _mains(lock.holders(self.commands)):
                _signal(pid, number)
            if lock.take(patience):
                return
        for pid in lock.holders(self.commands):
            _signal(pid, signal.SIGKILL)
        if not lock.take(SILENT_STOP_SECONDS):
            raise EmbeddedError(
                f"Something holds {lock.path} and can't be stopped from here: perhaps a {self.title} that "
                f"another account or container started on {self.data}. Stop it there."
            )


def _mains(holders: dict[int, int]) -> list[int]:
    return sorted(pid for pid, parent in holders.items() if parent not in holders)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return  # gone, or another account's: the lock shows whether it ended
