"""The embedded servers when something was killed, left behind, started twice, or lies."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from metering.embedded import Embedded, redis_server
from tests.integration.embedded_homes import eventually, kill, read, write


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "home"
    yield folder
    Embedded(folder).stop()


@pytest.mark.parametrize("killed", [("postgres",), ("redis",), ("postgres", "redis")], ids="+".join)
def test_a_kill_loses_nothing_that_was_acknowledged(home: Path, killed: tuple[str, ...]) -> None:
    embedded = Embedded(home)
    addresses = embedded.start()
    pids = embedded.pids()
    for value in ("a", "b"):
        write(addresses, value)

    kill(embedded, *killed)
    again = embedded.start()

    assert again == addresses
    assert read(again) == (["a", "b"], ["a", "b"])
    for name in ("postgres", "redis"):
        assert (embedded.pids()[name] == pids[name]) is (name not in killed)


def test_a_torn_last_entry_of_the_redis_log_is_dropped_and_the_rest_loaded(home: Path) -> None:
    embedded = Embedded(home)
    write(embedded.start(), "whole")
    kill(embedded, "redis")
    [log] = [*home.glob("redis/appendonlydir/*.incr.aof"), *home.glob("redis/*.aof")]

    with log.open("ab") as torn:
        torn.write(b"*3\r\n$5\r\nRPUSH\r\n$4\r\nke")

    assert read(embedded.start()) == (["whole"], ["whole"])


def test_running_servers_are_adopted(home: Path) -> None:
    embedded = Embedded(home)
    addresses = embedded.start()
    pids = embedded.pids()

    said: list[str] = []
    other = Embedded(home, said.append)

    assert other.addresses() == addresses
    assert other.start() == addresses
    assert other.pids() == pids
    assert said == ["PostgreSQL is running already", "Redis is running already"]


def test_servers_with_other_settings_are_replaced(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded = Embedded(home)
    with monkeypatch.context() as patched:
        patched.setitem(redis_server.SETTINGS, "maxmemory-policy", "allkeys-lru")
        write(embedded.start(), "kept")
    pids = embedded.pids()

    said: list[str] = []
    addresses = Embedded(home, said.append).start()

    assert "replacing a Redis that has other settings (maxmemory-policy)" in said
    assert embedded.pids()["redis"] != pids["redis"]
    assert embedded.pids()["postgres"] == pids["postgres"]
    assert read(addresses) == (["kept"], ["kept"])


def test_servers_whose_sockets_were_cleaned_away_are_replaced(home: Path) -> None:
    embedded = Embedded(home)
    write(embedded.start(), "kept")
    sockets = Path((home / "run" / "sockets").read_text().strip())
    pids = embedded.pids()

    shutil.rmtree(sockets)

    assert embedded.addresses() is None
    assert embedded.pids() == pids
    assert read(embedded.start()) == (["kept"], ["kept"])
    assert embedded.pids() != pids


def test_a_server_that_hangs_is_replaced(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metering.embedded.server.SILENT_STOP_SECONDS", 0.2)
    embedded = Embedded(home)
    write(embedded.start(), "kept")
    [hanging] = embedded.pids()["redis"]

    os.kill(hanging, signal.SIGSTOP)

    assert read(embedded.start()) == (["kept"], ["kept"])
    assert embedded.pids()["redis"] != [hanging]


STARTER = textwrap.dedent("""
    import sys
    from pathlib import Path
    from metering.embedded import Embedded
    print(Embedded(Path(sys.argv[1])).start(), flush=True)
""")


def test_two_starts_at_once_end_with_one_pair_of_servers(home: Path) -> None:
    starters = [
        subprocess.Popen([sys.executable, "-c", STARTER, home], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    printed = {starter.communicate(timeout=60)[0] for starter in starters}

    embedded = Embedded(home)
    assert printed == {f"{embedded.addresses()}\n"}
    assert [len(pids) for pids in embedded.pids().values()] == [1, 1]
    assert (home / "log" / "postgres.log").read_text().count("starting PostgreSQL") == 1
    assert (home / "log" / "redis.log").read_text().count("Redis is starting") == 1


def test_the_servers_outlive_a_killed_starter_and_are_stopped_by_another(home: Path) -> None:
    waiting = STARTER + "sys.stdin.read()\n"
    starter = subprocess.Popen(
        [sys.executable, "-c", waiting, home], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with starter:
        assert starter.stdout is not None
        printed = starter.stdout.readline()
        starter.kill()

    embedded = Embedded(home)
    assert f"{embedded.addresses()}\n" == printed
    embedded.stop()
    assert embedded.pids() == {"postgres": [], "redis": []}


def test_pid_files_that_name_an_unrelated_process_do_no_harm(home: Path) -> None:
    embedded = Embedded(home)
    addresses = embedded.start()
    write(addresses, "kept")
    # As the same account, because PostgreSQL passes over other accounts' processes by itself.
    owner = (home / "postgres").stat().st_uid
    with subprocess.Popen(["sleep", "60"], user=owner if os.geteuid() == 0 else None) as unrelated:
        try:
            kill(embedded, "postgres", "redis")
            name_in_pid_files(home, unrelated.pid)

            again = embedded.start()
            embedded.stop()

            assert again == addresses
            assert unrelated.poll() is None
        finally:
            unrelated.kill()
    assert read(embedded.start()) == (["kept"], ["kept"])


def name_in_pid_files(home: Path, pid: int) -> None:
    sockets = Path((home / "run" / "sockets").read_text().strip())
    for file in (home / "postgres" / "postmaster.pid", sockets / ".s.PGSQL.5432.lock"):
        _, _, rest = file.read_text().partition("\n")
        file.write_text(f"{pid}\n{rest}")


def test_stopping_what_was_killed_leaves_no_sockets(home: Path) -> None:
    embedded = Embedded(home)
    embedded.start()
    sockets = Path((home / "run" / "sockets").read_text().strip())
    kill(embedded, "postgres", "redis")
    assert list(sockets.iterdir())

    embedded.stop()

    assert not sockets.exists()


def test_a_start_that_was_killed_while_creating_the_database_is_begun_anew(home: Path) -> None:
    starter = subprocess.Popen([sys.executable, "-c", STARTER, home], stdout=subprocess.DEVNULL)
    assert eventually((home / "postgres.new" / "PG_VERSION").exists)
    starter.kill()
    starter.wait()

    with Embedded(home) as addresses:
        write(addresses, "kept")
        assert read(addresses) == (["kept"], ["kept"])
