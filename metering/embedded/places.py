"""Where everything of one home lies. All processes with the same home come to the same sockets."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from metering.embedded.account import Account
from metering.embedded.errors import EmbeddedError

# The shortest limit on a socket's path is macOS's: 104 bytes with the closing zero.
LONGEST_SOCKET_PATH = 103
LONGEST_SOCKET_NAME = ".s.PGSQL.5432.lock"
LOG_BYTES = 10 * 1024 * 1024


@dataclass(frozen=True)
class Places:
    """The folders below a home. Only the sockets lie elsewhere: their paths have to be short."""

    home: Path

    @property
    def postgres(self) -> Path:
        return self.home / "postgres"

    @property
    def redis(self) -> Path:
        return self.home / "redis"

    @property
    def log(self) -> Path:
        return self.home / "log"

    @property
    def run(self) -> Path:
        return self.home / "run"

    @property
    def _record(self) -> Path:
        return self.run / "sockets"

    def create(self) -> None:
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            for folder in (self.log, self.run):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise EmbeddedError(
                f"Can't create {error.filename}: {error.strerror}. Set METERING_HOME to a folder you may write to."
            ) from error

    def sockets(self) -> Path | None:
        """The folder the sockets lie in, as the process that started the servers wrote it down."""
        try:
            recorded = Path(self._record.read_text().strip())
        except OSError:
            return None
        return recorded if recorded.is_dir() else None

    def create_sockets(self, account: Account) -> Path:
        """The same folder, made if need be. Refuses one that another account could have put there."""
        folder = self.sockets() or self._short_folder()
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if (
            not stat.S_ISDIR(found.st_mode)
            or found.st_uid not in (os.geteuid(), account.uid)
            or stat.S_IMODE(found.st_mode) & 0o077
        ):
            raise EmbeddedError(
                f"{folder}, where the sockets of {self.home} belong, is not a folder that you alone can enter. "
                "Look who made it and remove it."
            )
        account.own(folder)
        self._record.write_text(f"{folder}\n")
        return folder

    def remove_sockets(self) -> None:
        """Remove the folder and what killed servers left in it; nothing runs."""
        folder = self.sockets()
        if folder is None:
            return
        for left_over in (*folder.glob(".s.PGSQL.*"), *folder.glob("*.sock")):
            left_over.unlink(missing_ok=True)
        # Anything else in it is not ours to remove, and does no harm.
        with contextlib.suppress(OSError):
            folder.rmdir()

    def _short_folder(self) -> Path:
        # Written down because these variables differ between a login, cron and a service.
        home = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
        name = f"metering-{os.geteuid()}-{home}"
        for base in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):  # noqa: S108 - the check is above
            if not base or not os.access(base, os.W_OK | os.X_OK):
                continue
            folder = Path(base, name)
            if len(os.fsencode(folder / LONGEST_SOCKET_NAME)) <= LONGEST_SOCKET_PATH:
                return folder
        raise EmbeddedError(
            "No folder for the sockets: neither XDG_RUNTIME_DIR, TMPDIR nor /tmp is short and writable."
        )

    def log_file(self, server: str) -> Path:
        """The server's log; what grew large is put aside once, and written over the next time."""
        path = self.log / f"{server}.log"
        if path.exists() and path.stat().st_size > LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        return path
