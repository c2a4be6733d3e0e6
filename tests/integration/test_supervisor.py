"""The supervisor: real programs, real signals, and what is left when it is killed."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.factories.processes import free_ports

DEADLINE_SECONDS = 10

# The supervisor alone: what its package imports beside it takes longer than most of these tests.
RUN = textwrap.dedent("""
    import json, sys, types
    sys.modules["metering"] = types.ModuleType("metering")
    sys.modules["metering"].__path__ = [sys.argv[3]]
    from metering.supervisor import Command, supervise
    commands = [Command(name, argv, {"GREETING": "hello"}) for name, argv in json.loads(sys.argv[1]).items()]
    sys.exit(supervise(commands, stop_seconds=float(sys.argv[2])))
""")
PACKAGE = Path(__file__).resolve().parents[2] / "metering"
SLEEPER = ["sleep", "60"]


def arguments(commands: dict[str, list[str]], stop_seconds: float = 5) -> list[str]:
    return [sys.executable, "-c", RUN, json.dumps(commands), str(stop_seconds), str(PACKAGE)]


@contextlib.contextmanager
def supervising(commands: dict[str, list[str]], stop_seconds: float = 5) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(arguments(commands, stop_seconds), stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(process: subprocess.Popen[str], text: str) -> str:
    """Everything printed up to and including the line that holds the text."""
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if text in line:
            return printed
    raise AssertionError(f"{text!r} never came:\n{printed}")


def the_rest(process: subprocess.Popen[str]) -> str:
    # Not communicate(): it would pass over what reading by lines has buffered.
    assert process.stdout is not None
    printed = process.stdout.read()
    process.wait(timeout=DEADLINE_SECONDS)
    return printed


def eventually(holds: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def is_gone(pid: int) -> bool:
    """Ended, even where nobody has collected its status yet."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_lines_carry_the_name_and_the_first_to_end_ends_all() -> None:
    commands = {"web": shell('echo "$GREETING"; echo oops >&2; printf "no line break"; exit 3'), "worker": SLEEPER}
    done = subprocess.run(arguments(commands), capture_output=True, text=True, timeout=20, check=False)

    said = [line.split(maxsplit=1)[1] for line in done.stdout.splitlines()]
    assert {"web    | hello", "web    | oops", "web    | no line break"} <= set(said)
    assert "system | web ended with status 3" in said
    assert said[-1] in {"system | stopping", "web    | no line break"}
    assert done.returncode == 3
    assert "\033[" not in done.stdout


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 1), ("exit 7", 7), ("kill -KILL $$", 128 + signal.SIGKILL)],
    ids=["ended well", "failed", "was killed"],
)
def test_the_status_is_that_of_the_command_that_ended(script: str, status: int) -> None:
    commands = {"worker": SLEEPER, "web": shell(script)}
    done = subprocess.run(arguments(commands), capture_output=True, timeout=20, check=False)
    assert done.returncode == status


def test_a_program_that_does_not_exist_is_named_and_the_others_are_stopped() -> None:
    commands = {"worker": SLEEPER, "web": ["no-such-program"]}
    done = subprocess.run(arguments(commands), capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 127
    assert "can't start web: No such file or directory: no-such-program" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_told_to_stop_it_lets_every_command_finish(number: signal.Signals) -> None:
    script = "trap 'echo finished; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    with supervising({"a": shell(script), "b": shell(script)}) as process:
        wait_for(process, "ready")
        wait_for(process, "ready")
        process.send_signal(number)
        rest = the_rest(process)
        assert "a      | finished" in rest
        assert "b      | finished" in rest
        assert process.returncode == 0


def test_a_command_that_ignores_sigterm_is_killed_when_its_time_is_up() -> None:
    deaf = shell("trap '' TERM; echo ready $$; while :; do sleep 0.05; done")
    with supervising({"deaf": deaf}, stop_seconds=0.3) as process:
        pid = int(wait_for(process, "ready").split()[-1])
        process.terminate()
        rest = the_rest(process)
        assert "killing deaf" in rest
        assert process.returncode == 0
        assert is_gone(pid)


def test_a_second_signal_kills_at_once() -> None:
    deaf = shell("trap '' TERM; echo ready; while :; do sleep 0.05; done")
    with supervising({"deaf": deaf}, stop_seconds=60) as process:
        wait_for(process, "ready")
        process.terminate()
        wait_for(process, "stopping")
        process.terminate()
        assert process.wait(timeout=20) == 0


def test_what_a_killed_command_started_ends_too() -> None:
    parent = shell("sleep 60 & echo child $!; wait")
    with supervising({"parent": parent}) as process:
        printed = wait_for(process, "| child")
        child = int(printed.split()[-1])
        [started] = [line for line in printed.splitlines() if "parent started" in line]
        os.kill(int(started.split()[-1].rstrip(")")), signal.SIGKILL)
        the_rest(process)
        assert is_gone(child)


def test_colours_are_for_terminals() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(arguments({"web": shell("echo hello")}), stdout=theirs)
    os.close(theirs)
    printed = b""
    with contextlib.suppress(OSError):  # the terminal's end is an error on Linux
        while read := os.read(ours, 4096):
            printed += read
    os.close(ours)
    process.wait(timeout=20)
    assert b"\033[36m" in printed


APPLICATION = """
import os

def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


def test_killed_it_leaves_no_server_on_the_port(tmp_path: Path) -> None:
    port = free_ports()
    (tmp_path / "application.py").write_text(APPLICATION)
    gunicorn = [
        sys.executable, "-m", "gunicorn", "application:app", "--chdir", str(tmp_path), "--workers", "2",
        "--threads", "2", "--bind", f"127.0.0.1:{port}", "--no-control-socket",
    ]  # fmt: skip
    deaf = shell("trap '' TERM; echo deaf $$; while :; do sleep 0.05; done")
    with supervising({"web": gunicorn, "deaf": deaf}) as process:
        printed = wait_for(process, "Booting worker") + wait_for(process, "Booting worker")
        pids = [int(line.split()[-1]) for line in printed.splitlines() if "Booting worker" in line]
        pids += [int(line.split()[-1].rstrip(")")) for line in printed.splitlines() if " started (pid" in line]
        assert len(pids) == 4
        assert answers(port)

        process.kill()

        try:
            assert eventually(lambda: all(map(is_gone, pids)), seconds=3)
            assert not answers(port)
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_in_the_end_nothing_of_its_own_is_left(tmp_path: Path) -> None:
    marker = tmp_path.name
    done = subprocess.run(arguments({"web": shell(f": {marker}")}), capture_output=True, timeout=20, check=False)
    assert done.returncode == 1
    left = [entry for entry in Path("/proc").glob("[0-9]*/cmdline") if marker in cmdline(entry)]
    assert left == []


def cmdline(entry: Path) -> str:
    try:
        return entry.read_text(errors="replace")
    except OSError:
        return ""
