"""The embedded servers: how they run, where, and what they say when they can't."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from metering.embedded import Embedded, EmbeddedError, redis_server
from tests.integration.embedded_homes import postgres_of, read, redis_of, write


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "home"
    yield folder
    Embedded(folder).stop()


def test_start_stop_start_keeps_the_data(home: Path) -> None:
    said: list[str] = []
    embedded = Embedded(home, said.append)

    write(embedded.start(), "first")
    embedded.stop()
    stopped = (embedded.addresses(), embedded.pids())
    with embedded as addresses:
        kept = read(addresses)

    assert stopped == (None, {"postgres": [], "redis": []})
    assert kept == (["first"], ["first"])
    assert "creating the PostgreSQL database" in said
    assert (home / "postgres" / "PG_VERSION").read_text().strip() == "18"
    assert {file.name for file in (home / "log").iterdir()} == {"postgres.log", "redis.log"}


def test_a_second_start_takes_little_time(home: Path) -> None:
    with Embedded(home):
        pass
    began = time.monotonic()
    with Embedded(home):
        # Measured: 0.06 s; the room is for a machine that does other things.
        assert time.monotonic() - began < 3


def test_a_very_long_path_works(tmp_path: Path) -> None:
    home = tmp_path.joinpath(*["a folder, with a \"long\" name & 'quotes'" + "x" * 50] * 3)
    embedded = Embedded(home)
    with embedded as addresses:
        write(addresses, "kept")
        assert embedded.addresses() == addresses
        assert read(addresses) == (["kept"], ["kept"])


def test_other_processes_find_the_sockets_whatever_their_environment(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = Embedded(home).start()
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "other"))
    assert Embedded(home).addresses() == addresses


def test_other_processes_find_them_with_another_redis_on_their_path(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = Embedded(home).start()
    (tmp_path / "redis-server").symlink_to(redis_server.binary().path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    redis_server.binary.cache_clear()
    try:
        assert Embedded(home).addresses() == addresses
    finally:
        redis_server.binary.cache_clear()


def test_a_socket_folder_open_to_others_is_refused(home: Path) -> None:
    embedded = Embedded(home)
    embedded.start()
    embedded.stop()
    sockets = Path((home / "run" / "sockets").read_text().strip())
    sockets.mkdir(mode=0o755)
    try:
        with pytest.raises(EmbeddedError, match="not a folder that you alone can enter"):
            embedded.start()
    finally:
        sockets.rmdir()


def test_settings_are_as_the_product_needs_them(home: Path) -> None:
    wanted = {
        "listen_addresses": "",
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "max_connections": "100",
        "shared_buffers": "128MB",
        "TimeZone": "UTC",
        "server_encoding": "UTF8",
        "data_checksums": "on",
    }
    config = {
        "port": "0",
        "appendonly": "yes",
        "appendfsync": "always",
        "aof-load-truncated": "yes",
        "maxmemory-policy": "noeviction",
        "save": "",
        "dir": str(home / "redis"),
    }
    with Embedded(home) as addresses, postgres_of(addresses) as connection, redis_of(addresses) as client:
        for name, value in wanted.items():
            assert connection.execute("SELECT current_setting(%s)", [name]).fetchone() == (value,), name
        locale = connection.execute(
            "SELECT datlocprovider::text, datlocale FROM pg_database WHERE datname = current_database()"
        ).fetchone()
        assert locale == ("b", "C.UTF-8")
        found = client.config_get("*")
        assert {name: found[name] for name in config} == config

        sockets = Path((home / "run" / "sockets").read_text().strip())
        assert sockets.stat().st_mode & 0o777 == 0o700


def test_nothing_listens_on_tcp(home: Path) -> None:
    embedded = Embedded(home)
    with embedded:
        pids = [pid for found in embedded.pids().values() for pid in found]
        sockets = {
            os.readlink(link).removeprefix("socket:[").rstrip("]")
            for pid in pids
            for link in Path(f"/proc/{pid}/fd").iterdir()
            if os.readlink(link).startswith("socket:")
        }
    listening = {
        line.split()[9]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        if Path(table).exists()
        for line in Path(table).read_text().splitlines()[1:]
    }
    assert sockets
    assert not sockets & listening


def test_data_of_another_version_is_left_alone(home: Path) -> None:
    embedded = Embedded(home)
    embedded.start()
    embedded.stop()
    (home / "postgres" / "PG_VERSION").write_text("17\n")
    with pytest.raises(EmbeddedError, match=r"written by PostgreSQL 17, this one is 18\. Dump it"):
        embedded.start()
    assert embedded.pids() == {"postgres": [], "redis": []}


def test_a_failed_start_shows_the_end_of_the_log_and_leaves_nothing_running(home: Path) -> None:
    embedded = Embedded(home)
    embedded.start()
    embedded.stop()
    for log in [*home.glob("redis/appendonlydir/*.aof"), *home.glob("redis/*.aof")]:
        log.write_text("this is no log of Redis")
    with pytest.raises(EmbeddedError, match=r"(?s)Redis ended as soon as it was started.*redis\.log.*Bad file format"):
        embedded.start()
    assert embedded.pids() == {"postgres": [], "redis": []}


def test_a_missing_redis_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    redis_server.binary.cache_clear()
    monkeypatch.setattr(redis_server, "_candidates", list)
    with pytest.raises(EmbeddedError, match=r"apt-get install redis-server.*brew install redis"):
        redis_server.binary()
