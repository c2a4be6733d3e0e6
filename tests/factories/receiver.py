"""A server that webhooks are delivered to: keeps what is posted, and answers as the test says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

PATIENCE_SECONDS = 20


class Arrival(NamedTuple):
    """One delivery as it came over the wire."""

    body: bytes
    signature: str
    path: str

    @property
    def event(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self.body)
        return event


class Receiver:
    """Listens on loopback. `answers` decides the status of the nth delivery (from 0); 200 unless told."""

    def __init__(self, answers: Callable[[int], int] = lambda _: 200) -> None:
        self.answers = answers
        self._arrivals: list[Arrival] = []
        self._arrived = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.answers(receiver._keep(Arrival(body, self.headers["Stripe-Signature"], self.path)))
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """The test looks at what arrived."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def arrivals(self) -> list[Arrival]:
        with self._arrived:
            return list(self._arrivals)

    @property
    def types(self) -> list[str]:
        return [arrival.event["type"] for arrival in self.arrivals]

    def wait_for(self, count: int) -> list[Arrival]:
        """At least that many deliveries; fails when they don't come."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self._arrivals) >= count, PATIENCE_SECONDS), self._arrivals
            return list(self._arrivals)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _keep(self, arrival: Arrival) -> int:
        with self._arrived:
            self._arrivals.append(arrival)
            self._arrived.notify_all()
            return len(self._arrivals) - 1
