"""Events over HTTP, through a real server: requests a second at one event each, and events a second at a thousand.

The peer of the first is a bare Flask view that parses the same JSON and answers 204; that of the second the bare insert
statement, fed from memory in one process. The clients are a process of their own with as many connections for either.
"""

import gc
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from flask import Flask, request
from sqlalchemy import text

from benchmarks.common import Result, empty_usage, make_customer, product
from benchmarks.drain import bare_seconds, rows_in_streams
from metering.accounts.keys import create_key
from metering.background import run_drain
from metering.keeper import Keeper
from metering.runtime import Runtime, build_runtime
from metering.settings import load_settings

ROUNDS = 3
CONNECTIONS = 8
SINGLE_REQUESTS = 4_000
BATCHES = 100
BATCH = 1_000
CUSTOMERS = 20
WAIT_SECONDS = 60


def run() -> list[Result]:
    with product() as runtime:
        names = [make_customer(runtime, f"customer-{number}")[0].key for number in range(CUSTOMERS)]
        secret = operator_key(runtime)
        return [_single(runtime, names, secret), _batches(runtime, names, secret)]


def _single(runtime: Runtime, names: Sequence[str], secret: str) -> Result:
    us, them = [], []
    for number in range(ROUNDS):
        requests = [
            _request(secret, [_event(names, f"single-{number}-{n}", n)], single=True) for n in range(SINGLE_REQUESTS)
        ]
        with server(runtime, "benchmarks.ingest:bare_app()") as port:
            them.append(SINGLE_REQUESTS / _send(port, requests))
        with server(runtime, "wsgi:app") as port:
            us.append(SINGLE_REQUESTS / _send(port, requests))
        Keeper(runtime).drain_all()
    ours, peer = sorted(us)[ROUNDS // 2], sorted(them)[ROUNDS // 2]
    return Result(
        "requests a second at one event each / a bare Flask view that parses the same JSON and answers 204",
        f"{ours:,.0f}/s",
        f"{peer:,.0f}/s",
        ours / peer,
        0.35,
        at_least=True,
    )


def _batches(runtime: Runtime, names: Sequence[str], secret: str) -> Result:
    requests = [
        _request(secret, [_event(names, f"batch-{number}-{n}", n) for n in range(BATCH)]) for number in range(BATCHES)
    ]
    empty_usage(runtime)
    with server(runtime, "wsgi:app") as port, draining(runtime):
        _send(port, [_request(secret, [_event(names, "first", 0)])])
        _wait_for(runtime, 1)  # it drains
        started = time.perf_counter()
        _send(port, requests)
        _wait_for(runtime, BATCHES * BATCH + 1)
        taken = BATCHES * BATCH / (time.perf_counter() - started)
    Keeper(runtime).drain_all()  # trims what was stored: only what comes now shall stand in the streams
    empty_usage(runtime)
    runtime.redis.delete(*runtime.redis.scan_iter("*:d:*", count=10_000))
    with server(runtime, "wsgi:app") as port:
        _send(port, requests)
    rows = rows_in_streams(runtime)
    assert len(rows) == BATCHES * BATCH
    stated = len(rows) / bare_seconds(runtime, rows)
    return Result(
        f"events a second accepted and in PostgreSQL at {BATCH} a request / the bare insert statement",
        f"{taken:,.0f}/s",
        f"{stated:,.0f}/s",
        taken / stated,
        0.4,
        at_least=True,
    )


def operator_key(runtime: Runtime) -> str:
    with runtime.transaction() as session:
        _, made = create_key(
            session, None, name="bench", scopes=["events:write"], now=runtime.clock(), by_operator=True
        )
    Keeper(runtime).send_state()
    return made.secret


# -- servers -----------------------------------------------------------------------------------------------------


def bare_app() -> Flask:
    app = Flask("bare")

    @app.post("/api/v1/events")
    def take() -> tuple[str, int]:
        json.loads(request.get_data())
        return "", 204

    return app


@contextmanager
def server(runtime: Runtime, app: str) -> Iterator[int]:
    """gunicorn as the Procfile starts it; its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", app, "--bind", f"127.0.0.1:{port}", "--log-level", "error"]
    settings = {"METERING_ENV": "development", "METERING_HOME": str(runtime.settings.home)}
    process = subprocess.Popen(
        [*command, "--workers", "2", "--threads", "8"],
        cwd=Path(__file__).resolve().parent.parent,
        env={**os.environ, **settings},
    )
    try:
        _until(lambda: _answers(port))
        yield port
    finally:
        process.terminate()
        process.wait()


@contextmanager
def draining(runtime: Runtime) -> Iterator[None]:
    drain = multiprocessing.get_context("spawn").Process(target=drain_at, args=(str(runtime.settings.home),))
    drain.start()
    try:
        yield
    finally:
        drain.terminate()
        drain.join()


def drain_at(home: str) -> None:
    runtime = build_runtime(load_settings(env="development", home=home))
    gc.freeze()
    run_drain(runtime)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _until(condition) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it never came to be")
        time.sleep(0.02)


def _wait_for(runtime: Runtime, events: int) -> None:
    def stored() -> bool:
        with runtime.engine.connect() as connection:
            return connection.execute(text("SELECT sum(events) FROM period_totals")).scalar() == events

    _until(stored)


# -- clients -----------------------------------------------------------------------------------------------------


def _event(names: Sequence[str], id: str, number: int) -> dict[str, object]:
    return {
        "specversion": "1.0",
        "id": id,
        "source": "bench",
        "type": ("api_call", "tokens")[number % 2],
        "subject": names[number % len(names)],
        "data": {"value": number % 5 + 1, "path": f"/{number % 10}", "method": "GET", "status": 200, "model": "m"},
    }


def _request(secret: str, events: list[dict[str, object]], *, single: bool = False) -> bytes:
    body = json.dumps(events[0] if single else events).encode()
    media_type = "application/cloudevents+json" if single else "application/cloudevents-batch+json"
    head = (
        f"POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\n"
        f"Content-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _send(port: int, requests: Sequence[bytes]) -> float:
    """Seconds that a process of clients took to have all of them answered."""
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()
    clients = context.Process(target=_clients, args=(port, requests, theirs))
    clients.start()
    taken: float = mine.recv()
    clients.join()
    return taken


def _clients(port: int, requests: Sequence[bytes], answer) -> None:  # type: ignore[no-untyped-def]
    threads = [
        threading.Thread(target=_client, args=(port, requests[number::CONNECTIONS])) for number in range(CONNECTIONS)
    ]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answer.send(time.perf_counter() - started)


def _client(port: int, requests: Sequence[bytes]) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for one in requests:
            connection.sendall(one)
            answer = connection.recv(4096)
            if not answer.startswith(b"HTTP/1.1 204"):
                raise AssertionError(answer.decode())
