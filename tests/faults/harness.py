"""The product in processes that tests may kill: a home of its own; web, drain and worker forked from one warm parent;
and clients that write every acknowledgement to disk and ask again until they have one.
"""

import contextlib
import http.client
import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import werkzeug.serving
from flask import request
from redis.exceptions import RedisError
from rq import Queue

from metering import background, create_app, failpoints, jobs, keeper, metered
from metering.accounts.customers import create_customer
from metering.accounts.keys import create_key
from metering.clock import utc_now
from metering.embedded import Addresses, Embedded
from metering.extensions import csrf
from metering.initialise import initialise
from metering.keeper import Keeper
from metering.runtime import Runtime, build_runtime
from metering.settings import Settings, load_settings
from metering.stripe_sync.gateway import STANDIN
from tests.factories.forks import FORKS
from tests.factories.processes import alive
from tests.factories.subscriptions import subscribed

DEADLINE_SECONDS = 30
LEASE_SECONDS = 1
SOON_SECONDS = 0.1
"""Instead of the one or two seconds after which a process looks whether Redis is back."""

PAUSE_SECONDS = 0.02
"""Of a client between two calls: without it they keep from their work those who are to be killed at it."""

LONGER_THAN_A_CLAIM = timedelta(seconds=160)

PLACES = {
    "web": ("call.admitted", "call.before_settle", "call.settled", "ingest.looked", "ingest.recorded"),
    "drain": ("drain.before_trim", "drain.read", "drain.before_commit", "drain.committed"),
    "worker": ("stripe.before_send", "stripe.accepted"),
}
"""Who comes to which place."""


def settings_for(addresses: Addresses, **more: Any) -> Settings:
    """By address, so that a process may start while Redis is away."""
    servers = {"database_url": addresses.database_url, "redis_url": addresses.redis_url}
    return load_settings(env="development", lease_seconds=LEASE_SECONDS, redis_timeout_seconds=1, **servers, **more)


def serve_web(addresses: Addresses, listener: socket.socket, orders: Connection) -> None:
    """A web process: our app and one endpoint that counts as much as it is told."""
    app = create_app(settings_for(addresses))

    @app.post("/api/v1/work")
    @csrf.exempt
    @metered("api_call", quantity=lambda request: int(request.args["n"]), reserve={"tokens": 5})
    def work() -> dict[str, str]:
        return {"done": request.args["n"]}

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    host, port = listener.getsockname()
    server = werkzeug.serving.make_server(host, port, app, threaded=True, fd=listener.fileno())
    obey(orders)
    server.serve_forever()


def keep(addresses: Addresses, orders: Connection) -> None:
    """A drain process."""
    runtime = build_runtime(settings_for(addresses))
    keeper.FAULT_SECONDS = SOON_SECONDS
    obey(orders)
    background.run_drain(runtime)


def work_on(addresses: Addresses, standin_url: str, ahead: timedelta, orders: Connection) -> None:
    """A worker whose job is to report to Stripe, the hour that runs included, by a clock that is `ahead`."""
    stripe = {"stripe": "standin", "stripe_api_key": "sk_test_faults", "stripe_api_base": standin_url}
    runtime = build_runtime(settings_for(addresses, **stripe), clock=lambda: utc_now() + ahead)
    jobs.runtime = lambda: runtime  # type: ignore[assignment]
    background.RETRY_SECONDS = SOON_SECONDS
    logging.disable()  # RQ tells at length of each Redis that went away
    threading.Thread(target=enqueue_on, args=(runtime,), daemon=True).start()
    obey(orders)
    background.run_worker(runtime)


def enqueue_on(runtime: Runtime) -> None:
    """What the schedule does, without its half minute between two reports."""
    queue = Queue(jobs.QUEUE, connection=runtime.queue_redis)
    while True:
        with contextlib.suppress(RedisError):
            if not queue.count:
                queue.enqueue(jobs.report_to_stripe, result_ttl=10, failure_ttl=10)
        time.sleep(0.1)


def obey(orders: Connection) -> None:
    """Say that this process is ready, and arm it with whatever fail-points come, while it goes on."""

    def listen() -> None:
        with contextlib.suppress(EOFError, ConnectionError):
            orders.send("ready")
            while True:
                failpoints.arm(orders.recv())

    threading.Thread(target=listen, daemon=True).start()


TARGETS: dict[str, Callable[..., None]] = {"web": serve_web, "drain": keep, "worker": work_on}


@dataclass
class Running:
    process: ForkServerProcess
    orders: Connection
    ready: bool = False

    def await_ready(self) -> None:
        if not self.ready:
            assert self.orders.poll(DEADLINE_SECONDS), f"not ready, exit code {self.process.exitcode}"
            self.ready = self.orders.recv() == "ready"


@dataclass
class Product:
    """Everything that runs. `kills` counts by place."""

    embedded: Embedded
    addresses: Addresses
    listener: socket.socket
    api_key: str = ""
    standin_url: str = ""
    kills: dict[str, int] = field(default_factory=dict)
    running: dict[str, Running] = field(default_factory=dict)
    workers: int = 0

    def start(self, role: str) -> None:
        theirs, ours = FORKS.Pipe()
        process = FORKS.Process(target=TARGETS[role], args=(*self._arguments(role), theirs), daemon=True)
        process.start()
        theirs.close()
        self.running[role] = Running(process, ours)

    def _arguments(self, role: str) -> tuple[Any, ...]:
        if role == "web":
            return self.addresses, self.listener
        if role == "drain":
            return (self.addresses,)
        # A row that a killed sender had claimed comes free in minutes: each worker starts that much later.
        self.workers += 1
        return self.addresses, self.standin_url, LONGER_THAN_A_CLAIM * self.workers

    def kill_at(self, victim: str, place: str, nth: int) -> None:
        """Have the victim killed when whoever comes to a place is there for the nth time; then bring it back.

        Clients go on all the while. The one who comes there may be the victim itself.
        """
        comes = next(role for role, places in PLACES.items() if place in places)
        for one in self.running.values():
            one.await_ready()
        pid = self._pid(victim)
        self.running[comes].orders.send(f"{place}:{nth}:{pid}")
        wait_until(lambda: not self._lives(victim, pid), lambda: f"{comes} never came to {place}: {self._states()}")
        self.kills[place] = self.kills.get(place, 0) + 1
        if victim == "redis":
            self.embedded.start()
        else:
            self.start(victim)
        assert not self.ended, f"{victim} was killed at {place}, and others ended: {self._states()}"

    @property
    def ended(self) -> list[str]:
        """Who doesn't run, though nobody killed it."""
        return [role for role, one in self.running.items() if one.process.exitcode is not None]

    def told(self, acknowledged: int, attempts: int) -> str:
        kills = ", ".join(f"{count} {place}" for place, count in self.kills.items())
        return f"{acknowledged} calls acknowledged in {attempts} attempts; {sum(self.kills.values())} kills: {kills}"

    def stop(self) -> None:
        for one in self.running.values():
            one.process.kill()
            one.process.join(DEADLINE_SECONDS)
            one.orders.close()
        self.running.clear()

    def _pid(self, victim: str) -> int:
        if victim == "redis":
            (pid,) = self.embedded.pids()["redis"]
            return pid
        pid = self.running[victim].process.pid
        assert pid is not None
        return pid

    def _lives(self, victim: str, pid: int) -> bool:
        if victim == "redis":
            return alive(pid)
        code = self.running[victim].process.exitcode
        assert code in (None, -signal.SIGKILL), f"{victim} ended with {code}"
        return code is None

    def _states(self) -> dict[str, int | None]:
        return {role: one.process.exitcode for role, one in self.running.items()}

    @contextmanager
    def runtime(self) -> Iterator[Runtime]:
        runtime = build_runtime(settings_for(self.addresses))
        try:
            yield runtime
        finally:
            runtime.close()


@contextmanager
def running_product(home: Path) -> Iterator[Product]:
    """An initialised product with a customer without limits, who is subscribed; its processes are not started yet."""
    # Held by the test, so that callers find the address whoever was killed, and nobody else can take it meanwhile.
    embedded = Embedded(home)
    with embedded as addresses, socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        product = Product(embedded, addresses, listener)
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
                subscribed(session, customer, STANDIN)
                scopes = ["meter", "events:write"]
                _, made = create_key(session, customer, name="k", scopes=scopes, now=runtime.clock(), by_operator=True)
            Keeper(runtime).send_state()
        product.api_key = made.secret
        try:
            yield product
        finally:
            product.stop()


class Clients:
    """Threads that call without pause. Each call has its own Idempotency-Key and is repeated until it was answered."""

    def __init__(self, product: Product, log: Path, threads: int = 3) -> None:
        self._api_key, self._address = product.api_key, product.listener.getsockname()
        self._log = open(log, "a")  # noqa: SIM115 - closed by stop()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.attempts = 0
        self._threads = [threading.Thread(target=self._call_on, args=(number,)) for number in range(threads)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
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
            self._until(
                (200,),
                *("POST", f"/api/v1/work?n={quantity}", None, {"Idempotency-Key": key}),
                meanwhile=(409,),
            )
            self._note({key: quantity})
            self._stop.wait(PAUSE_SECONDS)

    def _note(self, acknowledged: Mapping[str, int]) -> None:
        """On the disk before the next one is sent."""
        with self._lock:
            self._log.writelines(json.dumps({"key": key, "n": n}) + "\n" for key, n in acknowledged.items())
            self._log.flush()
            os.fsync(self._log.fileno())

    def _until(self, wanted: Sequence[int], *request: Any, meanwhile: Sequence[int] = ()) -> None:
        """Send the same request again until it is answered as `wanted`."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while (status := self._try(*request)) not in wanted:
            assert status in (None, 503, *meanwhile), f"{request[:2]}: {status}"
            assert time.monotonic() < deadline, f"{request[:2]} was never answered"
            self._stop.wait(0.02)

    def _try(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> int | None:
        """The status of the answer; None when there was none."""
        self.attempts += 1
        headers = {"Authorization": f"Bearer {self._api_key}", **headers}
        connection = http.client.HTTPConnection(*self._address, timeout=5)
        try:
            connection.request(method, path, body, headers)
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


def wait_until(condition: Callable[[], bool], otherwise: Callable[[], str]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.01)
