"""Both servers of one home, started and stopped together under the home's lock."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from metering.embedded.account import Account
from metering.embedded.errors import EmbeddedError
from metering.embedded.locks import Lock
from metering.embedded.places import Places
from metering.embedded.postgres_server import PostgresServer
from metering.embedded.redis_server import RedisServer
from metering.embedded.server import Report, Server


@dataclass(frozen=True)
class Addresses:
    """Where the servers of a home are reached: a SQLAlchemy URL and a redis-py URL, both over unix sockets."""

    database_url: str
    redis_url: str


def _silent(_: str) -> None:
    return None


class Embedded:
    """The PostgreSQL and the Redis whose data lie below `home`.

    They are servers of their own: they go on when the process that started them ends, until `stop()`. All
    methods may be called from any process, at any time, and raise EmbeddedError.
    """

    def __init__(self, home: Path, report: Report | None = None) -> None:
        self._places = Places(home.resolve())
        self._report = report or _silent

    def __enter__(self) -> Addresses:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> Addresses:
        """Have both servers running and ready: adopted, restarted or started. On an error neither is left running."""
        self._places.create()
        with self._locked():
            account = Account.for_data(self._places.postgres)
            servers = self._servers(self._places.create_sockets(account), account)
            try:
                for server in servers:
                    server.ensure()
            except BaseException:
                for server in servers:
                    server.stop()
                raise
        postgres, redis = servers
        return Addresses(database_url=postgres.url, redis_url=redis.url)

    def stop(self) -> None:
        """Stop the servers of this home, whoever started them; nothing to do if none runs."""
        if not self._places.run.is_dir():
            return
        with self._locked():
            for server in self._known_servers():
                server.stop()
            self._places.remove_sockets()

    def addresses(self) -> Addresses | None:
        """The addresses if both servers run and answer: for processes that only connect. Starts nothing.

        Whoever only connects may have another Redis on its PATH (an activated .venv has one) than who started this one.
        """
        if self._places.sockets() is None:
            return None
        postgres, redis = self._known_servers()
        if not (postgres.health().answers and redis.health().answers):
            return None
        return Addresses(database_url=postgres.url, redis_url=redis.url)

    def pids(self) -> dict[str, list[int]]:
        """The main process of `postgres` and of `redis`; an empty list for one that doesn't run."""
        if not self._places.run.is_dir():
            return {PostgresServer.name: [], RedisServer.name: []}
        with self._explained():
            return {server.name: server.pids() for server in self._known_servers()}

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise EmbeddedError(
                f"{error.filename or self._places.home}: {error.strerror or error}. "
                f"{self._places.home} must be writable, and started by the user who started it first."
            ) from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self._explained(), Lock(self._places.run / "start.lock") as lock:
            if not lock.take():
                self._report(f"waiting for another process that starts or stops the servers of {self._places.home}")
                lock.wait()
            yield

    def _known_servers(self) -> tuple[Server, Server]:
        account = Account.for_data(self._places.postgres)
        # Without the folder nobody answers, but a server whose sockets were cleaned away can still be stopped.
        return self._servers(self._places.sockets() or self._places.run, account)

    def _servers(self, sockets: Path, account: Account) -> tuple[Server, Server]:
        return (
            PostgresServer(self._places, sockets, account, self._report),
            RedisServer(self._places, sockets, account, self._report),
        )
