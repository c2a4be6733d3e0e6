"""The account the servers run as: our own; when we are root an unprivileged one, because PostgreSQL refuses root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from metering.embedded.errors import EmbeddedError

# The first of these that exists; Debian and most images have `nobody` at least.
UNPRIVILEGED = ("postgres", "nobody")
# The capability alone is not enough: access(2), with which PostgreSQL looks for its own program, drops the
# capabilities of everybody but root unless this bit says to leave them.
PASS_EVERY_FOLDER = [
    "--inh-caps=+dac_override",
    "--ambient-caps=+dac_override",
    "--securebits=+no_setuid_fixup",
]


@dataclass(frozen=True)
class Account:
    """Whose rights the servers run with and who owns their files."""

    uid: int
    gid: int

    @property
    def is_ours(self) -> bool:
        return self.uid == os.geteuid()

    @classmethod
    def for_data(cls, data: Path) -> Account:
        """Ourselves; as root the owner of the data, so that one start under sudo doesn't lock its owner out."""
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid())
        if data.exists() and data.stat().st_uid != 0:
            return cls(data.stat().st_uid, data.stat().st_gid)
        return cls._unprivileged()

    @classmethod
    def _unprivileged(cls) -> Account:
        for name in UNPRIVILEGED:
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return cls(entry.pw_uid, entry.pw_gid)
        raise EmbeddedError(
            "PostgreSQL doesn't run as root, and there is neither an account `postgres` nor `nobody` to run it as. "
            "Start as an ordinary user, or create one of them (useradd --system postgres)."
        )

    def prefix(self, *folders: Path) -> list[str]:
        """What to put before a command so that it runs as this account and reaches these folders."""
        if self.is_ours:
            return []
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise EmbeddedError(
                "PostgreSQL doesn't run as root, and `setpriv`, which would start it as another account, is missing. "
                "Start as an ordinary user, or install setpriv (Debian, Alpine: util-linux)."
            )
        plain = [setpriv, f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups"]
        if _reaches(plain, folders):
            return plain
        # A checkout below /root, say, which other accounts can't even pass through.
        passing = [*plain, *PASS_EVERY_FOLDER]
        if _reaches(passing, folders):
            return passing
        raise EmbeddedError(
            f"The account with the id {self.uid}, which the servers run as when root starts them, can't reach "
            f"{' or '.join(map(str, folders))}. Start as an ordinary user, or set METERING_HOME to a folder "
            "that every account can pass through."
        )

    def own(self, folder: Path) -> None:
        """Give a folder and what is in it to this account. Only root can and has to."""
        if self.is_ours:
            return
        for path in (folder, *folder.rglob("*")):
            if path.lstat().st_uid != self.uid:
                os.chown(path, self.uid, self.gid, follow_symlinks=False)


def _reaches(prefix: list[str], folders: tuple[Path, ...]) -> bool:
    # Asked of the kernel, by trying: modes alone don't tell, there are ACLs and read-only mounts.
    script = 'for folder; do [ -x "$folder" ] || exit 1; done'
    command = [*prefix, "/bin/sh", "-c", script, "sh", *map(str, folders)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603
