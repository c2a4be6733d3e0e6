"""What `make run` starts: everything works at once, stops together, and comes back with its data after any kill."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from metering.embedded import Embedded
from tests.factories.processes import alive, free_ports

pytestmark = pytest.mark.xdist_group("products")

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 90
READY = "Ctrl-C stops everything."
STARTED = re.compile(r"(\w+) started \(pid (\d+)\)")


class Running:
    """One `python -m metering`, with its output in a file."""

    def __init__(self, home: Path, port: int, log: Path) -> None:
        self.home, self.port, self.log = home, port, log
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("METERING_", "STRIPE"))
        }
        environment |= {"METERING_HOME": str(home), "PORT": str(port)}
        self.environment = environment
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "metering"], cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
            )
        wait_until(
            lambda: READY in log.read_text() or self.process.poll() is not None,
            lambda: f"it never got ready:\n{log.read_text()}",
        )
        assert self.process.poll() is None, f"it ended:\n{log.read_text()}"

    @property
    def said(self) -> str:
        return self.log.read_text()

    @property
    def children(self) -> dict[str, int]:
        return {name: int(pid) for name, pid in STARTED.findall(self.said)}

    def call(self, path: str) -> dict[str, object]:
        """Use the very key and address that were printed."""
        found = re.search(r"Bearer (\S+)' (http\S+?)/api", self.said)
        assert found is not None
        request = urllib.request.Request(f"{found[2]}{path}", headers={"Authorization": f"Bearer {found[1]}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            body: dict[str, object] = json.load(answer)
        return body

    def used(self) -> int:
        meters = self.call("/api/v1/usage")["meters"]
        return int(next(one["used"] for one in meters if one["meter"] == "api_call"))  # type: ignore[attr-defined]

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        flask = [sys.executable, "-m", "flask", "--app", "wsgi", "metering", *words]
        return subprocess.run(flask, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)

    def ended(self) -> int:
        """The exit status; every process it started has ended too."""
        status = self.process.wait(DEADLINE_SECONDS)
        for name, pid in self.children.items():
            wait_until(lambda pid=pid: not alive(pid), lambda name=name: f"{name} outlived the supervisor")
        return status


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    Embedded(tmp_path / "home").stop()


def test_it_works_at_once_comes_back_with_its_data_after_any_kill_and_sells(home: Path, tmp_path: Path) -> None:
    port = free_ports(2)  # the stand-in takes the next one

    # Given a fresh machine: the line that is printed works, and Ctrl-C stops every process.
    first = Running(home, port, tmp_path / "1")
    first.call("/api/v1/sample/ping")
    assert first.used() == 1
    first.process.send_signal(signal.SIGINT)
    assert first.ended() == 0
    assert Embedded(home).pids() == {"postgres": [], "redis": []}

    # Then commands beside the second one need to be told where it is, and nothing else.
    second = Running(home, port, tmp_path / "2")
    assert second.command("verify").returncode == 0

    again = subprocess.run(
        [sys.executable, "-m", "metering"],
        cwd=ROOT,
        env=second.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (again.returncode, "runs already" in again.stderr) == (1, True)

    # When it has its web server killed: all stops, with a status that says so.
    assert second.used() == 1
    second.call("/api/v1/sample/ping")
    second.kill(second.children["web"])
    assert second.ended() != 0

    # When the supervisor itself is killed: the next start finds the port free and the servers' data.
    third = Running(home, port, tmp_path / "3")
    assert third.used() == 2
    third.call("/api/v1/sample/ping")
    third.kill(third.process.pid)
    assert third.ended() == -signal.SIGKILL

    # When everything is killed at once, PostgreSQL and Redis too.
    fourth = Running(home, port, tmp_path / "4")
    assert fourth.used() == 3
    fourth.call("/api/v1/sample/ping")
    servers = [pid for pids in Embedded(home).pids().values() for pid in pids]
    for pid in [fourth.process.pid, *fourth.children.values(), *servers]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    fourth.ended()

    fifth = Running(home, port, tmp_path / "5")
    assert fifth.used() == 4

    # In the end a plan is bought, of a stand-in that has its data as well.
    buy_a_plan(fifth)
    assert fifth.command("verify").returncode == 0
    fifth.process.send_signal(signal.SIGTERM)
    assert fifth.ended() == 0


def buy_a_plan(product: Running) -> None:
    """The button on the plan page leads to the stand-in's checkout; its webhook does the rest, with all in their own
    processes.
    """
    person = requests.Session()
    found = re.search(r"Log in +(\S+)  /  (\S+)", product.said)
    assert found is not None

    def fill_in(page: str, action: str, **fields: str) -> requests.Response:
        base = f"http://127.0.0.1:{product.port}"
        token = re.search(r'name="csrf_token" value="([^"]+)"', person.get(base + page, timeout=10).text)
        assert token is not None
        sent = {"csrf_token": token[1], **fields}
        return person.post(base + action, data=sent, timeout=10, allow_redirects=False)

    fill_in("/login", "/login", email=found[1], password=found[2])
    checkout = fill_in("/c/demo/plan", "/c/demo/plan/checkout", plan="pro").headers["Location"]
    requests.post(checkout, timeout=10, allow_redirects=False)

    wait_until(lambda: product.call("/api/v1/usage")["plan"] == "pro", lambda: f"it stays free:\n{product.said}")


def wait_until(condition: Callable[[], bool], otherwise: Callable[[], str]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.05)
