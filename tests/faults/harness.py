"""The product in processes that tests may kill: a home of its own, web and drain forked from one warm parent, and
clients that write every acknowledgement to disk and ask again until they have one.
"""

import contextlib
import http.client
import json
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import werkzeug.serving
from flask import request

from metering import create_app, failpoints, metered
from metering.accounts.customers import create_customer
from metering.accounts.keys import create_key
from metering.clock import utc_now
from metering.embedded import Embedded
from metering.extensions import csrf
from metering.initialise import initialise
from metering.keeper import Keeper
from metering.runtime import Runtime, build_runtime
from metering.settings import Settings, load_settings
from metering.stripe_sync.gateway import StripeFailed
from metering.stripe_sync.reporting import report

DEADLINE_SECONDS = 30
LEASE_SECONDS = 1
LONGER_THAN_A_CLAIM = timedelta(seconds=160)

# Forking from a process that has everything imported and runs no thread makes a restart cost milliseconds.
FORKS: ForkServerContext = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.faults.harness"])


def settings_for(home: Path, **more: Any) -> Settings:
    return load_settings(env="development", home=home, lease_seconds=LEASE_SECONDS, redis_timeout_seconds=1, **more)


def serve_web(home: Path, port: int, failpoint: str | None) -> None:
    """A web process: our app and one endpoint that counts as much as it is told."""
    app = create_app(settings_for(home))

    @app.post("/api/v1/work")
    @csrf.exempt
    @metered("api_call", quantity=lambda request: int(request.args["n"]), reserve={"tokens": 5})
    def work() -> dict[str, str]:
        return {"done": request.args["n"]}

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    failpoints.arm(failpoint)
    server = werkzeug.serving.make_server("127.0.0.1", port, app, threaded=True)
    server.serve_forever()


def keep(home: Path, failpoint: str | None) -> None:
    """A drain process."""
    runtime = build_runtime(settings_for(home))
    failpoints.arm(failpoint)
    Keeper(runtime).run()


def report_on(home: Path, standin_url: str, ahead: timedelta, failpoint: str | None) -> None:
    """A worker that reports to Stripe without pause, the hour that runs included, by a clock that is `ahead`."""
    stripe = {"stripe": "standin", "stripe_api_key": "sk_test_faults", "stripe_api_base": standin_url}
    runtime = build_runtime(settings_for(home, **stripe), clock=lambda: utc_now() + ahead)
    failpoints.arm(failpoint)
    while True:
        with contextlib.suppress(StripeFailed):
            report(runtime)
        time.sleep(0.05)


@dataclass
class Product:
    """Everything that runs. `kills` counts what was killed, by victim and fail-point."""

    home: Path
    port: int
    embedded: Embedded
    api_key: str = ""
    standin_url: str = ""
    kills: dict[str, int] = field(default_factory=dict)
    processes: dict[str, ForkServerProcess] = field(default_factory=dict)

    def start(self, role: str, failpoint: str | None = None) -> None:
        targets: dict[str, tuple[Callable[..., None], tuple[Any, ...]]] = {
            "web": (serve_web, (self.home, self.port)),
            "drain": (keep, (self.home,)),
            # A row that a killed sender had claimed comes free in minutes: each start is that much later.
            "worker": (report_on, (self.home, self.standin_url, LONGER_THAN_A_CLAIM * sum(self.kills.values()))),
        }
        target, args = targets[role]
        process = FORKS.Process(target=target, args=(*args, failpoint), daemon=True)
        process.start()
        self.processes[role] = process

    def restart(self, role: str, failpoint: str | None = None) -> None:
        self.processes[role].kill()
        self.processes[role].join(DEADLINE_SECONDS)
        self.start(role, failpoint)

    def kill_at(self, role: str, failpoint: str, nth: int = 3) -> None:
        """Have a process kill itself on its nth visit of a place while the clients go on, then bring it back."""
        self.restart(role, f"{failpoint}:{nth}")
        process = self.processes[role]
        process.join(DEADLINE_SECONDS)
        assert process.exitcode == -signal.SIGKILL, f"{role} never came to {failpoint}: {process.exitcode}"
        self._count(f"{role} at {failpoint}")
        self.start(role)

    def kill_redis_at(self, role: str, failpoint: str, nth: int = 3) -> None:
        """Have a process kill Redis on its nth visit of a place, then bring Redis back."""
        (pid,) = self.embedded.pids()["redis"]
        self.restart(role, f"{failpoint}:{nth}:{pid}")
        wait_until(lambda: not alive(pid), f"Redis was never killed at {failpoint}")
        self._count(f"redis at {failpoint}")
        self.embedded.start()
        self.restart(role)

    def stop(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.join(DEADLINE_SECONDS)

    def _count(self, what: str) -> None:
        self.kills[what] = self.kills.get(what, 0) + 1

    @contextmanager
    def runtime(self) -> Iterator[Runtime]:
        runtime = build_runtime(settings_for(self.home))
        try:
            yield runtime
        finally:
            runtime.close()


@contextmanager
def running_product(home: Path, port: int) -> Iterator[Product]:
    """An initialised product with a customer without limits; its web and drain are not started yet."""
    with Embedded(home):
        product = Product(home, port, Embedded(home))
        with product.runtime() as runtime:
            initialise(runtime, report=lambda _: None)
            with runtime.transaction() as session:
                customer = create_customer(
                    session,
                    runtime.catalog,
                    key="acme",
                    name="Acme",
                    plan="enterprise",
                    partitions=runtime.settings.partitions,
                    now=runtime.clock(),
                )
                _, made = create_key(session, customer, name="k", scopes=["meter"], now=runtime.clock())
            Keeper(runtime).send_state()
        product.api_key = made.secret
        try:
            yield product
        finally:
            product.stop()


class Clients:
    """Threads that call without pause. Each call has its own Idempotency-Key and is repeated until it was answered."""

    def __init__(self, product: Product, log: Path, threads: int = 8) -> None:
        self._product = product
        self._log = open(log, "a")  # noqa: SIM115 - closed by stop()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.attempts = 0
        self._threads = [threading.Thread(target=self._call_on, args=(number,)) for number in range(threads)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let every call under way come to its answer."""
        self._stop.set()
        for thread in self._threads:
            thread.join(DEADLINE_SECONDS * 2)
            assert not thread.is_alive(), "a call never got its answer"
        self._log.close()

    def _call_on(self, number: int) -> None:
        count = 0
        while not self._stop.is_set():
            count += 1
            quantity = count % 7 + 1
            key = f"{number}-{count}"
            self._call(key, quantity)
            with self._lock:
                self._log.write(json.dumps({"key": key, "n": quantity}) + "\n")
                self._log.flush()
                os.fsync(self._log.fileno())

    def _call(self, key: str, quantity: int) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while (status := self._try(key, quantity)) != 200:
            assert status in (None, 409, 503), f"{key}: {status}"
            assert time.monotonic() < deadline, f"{key} was never answered"
            self._stop.wait(0.02)

    def _try(self, key: str, quantity: int) -> int | None:
        """The status of the answer; None when there was none."""
        self.attempts += 1
        headers = {"Authorization": f"Bearer {self._product.api_key}", "Idempotency-Key": key}
        connection = http.client.HTTPConnection("127.0.0.1", self._product.port, timeout=5)
        try:
            connection.request("POST", f"/api/v1/work?n={quantity}", headers=headers)
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        return response.status


def read_log(log: Path) -> dict[str, int]:
    """The acknowledged quantity by key."""
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    found = {entry["key"]: entry["n"] for entry in entries}
    assert len(found) == len(entries)
    return found


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.01)
