"""What a test client cannot send: requests that are hardly HTTP, to the product behind a real gunicorn."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from metering.embedded import Addresses
from tests.factories.world import PARTITIONS, World

PATIENCE_SECONDS = 30
NO_HTTP = {
    "a length that is no number": b"POST /api/v1/check HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n{}",
    "a negative length": b"POST /api/v1/check HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n{}",
    "two lengths": b"POST /api/v1/check HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a raw NUL": b"GET /api/\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
    "no request line": b"hello\r\n\r\n",
}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Gunicorn:
    socket: Path
    key: str

    def send(self, raw: bytes, *, shut: bool = False) -> Answer:
        """Send bytes as they are; `shut`: and nothing more."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE_SECONDS)
            connection.connect(str(self.socket))
            connection.sendall(raw)
            if shut:
                connection.shutdown(socket.SHUT_WR)
            received = b""
            while part := connection.recv(65536):
                received += part
        head, _, body = received.partition(b"\r\n\r\n")
        first, *fields = head.decode("latin-1").split("\r\n")
        named = (field.partition(": ") for field in fields)
        return Answer(int(first.split()[1]), {name.title(): value for name, _, value in named}, body)

    def request(self, line: str, body: bytes = b"", *headers: str, shut: bool = False) -> Answer:
        fields = ["Host: x", "Connection: close", f"Authorization: Bearer {self.key}", *headers]
        head = "\r\n".join([f"{line} HTTP/1.1", *fields, "", ""])
        return self.send(head.encode("latin-1") + body, shut=shut)


@pytest.fixture
def gunicorn(world: World, servers: Addresses, tmp_path: Path, project_root: Path) -> Iterator[Gunicorn]:
    key = world.key(world.customer(), "meter", "usage:read")
    path = tmp_path / "web.sock"
    env = {name: value for name, value in os.environ.items() if not name.startswith("METERING_")} | {
        "METERING_ENV": "development",
        "METERING_HOME": str(tmp_path),
        "METERING_PARTITIONS": str(PARTITIONS),
        "METERING_DATABASE_URL": servers.database_url,
        "METERING_REDIS_URL": servers.redis_url,
    }
    command = [sys.executable, "-m", "gunicorn", "wsgi:app", "--bind", f"unix:{path}", "--threads", "4"]
    with subprocess.Popen([*command, "--log-level", "critical"], env=env, cwd=project_root) as process:
        web = Gunicorn(path, key.secret)
        wait_for(web, process)
        yield web
        process.terminate()


def wait_for(web: Gunicorn, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        assert process.poll() is None, "gunicorn ended"
        assert time.monotonic() < deadline, "gunicorn does not serve"
        try:
            if web.request("GET /healthz").status == 200:
                return
        except (OSError, IndexError):
            time.sleep(0.05)


def problem(answer: Answer, status: int, code: str) -> dict[str, object]:
    body: dict[str, object] = json.loads(answer.body)
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/problem+json")
    assert (body["type"], body["request_id"]) == (f"/problems/{code}", answer.headers["X-Request-Id"])
    return body


def test_hostile_requests_get_a_clear_answer_and_the_server_stays(gunicorn: Gunicorn) -> None:
    for target in ("/api/v1/limits/%zz", "/api/v1/limits/%00", "/api/v1/limits/%ff", "/api/v1/usage?customer=%ff"):
        problem(gunicorn.request(f"GET {target}"), 400, "invalid-request")
    problem(gunicorn.request("GET /api/v1/usage?customer=%00"), 400, "invalid-request")
    problem(gunicorn.request("GET /api//v1/usage"), 404, "not-found")
    problem(gunicorn.request("BREW /api/v1/check"), 405, "method-not-allowed")

    chunked, json_type = "Transfer-Encoding: chunked", "Content-Type: application/json"
    for path in ("POST /api/v1/check", "POST /api/v1/sample/messages", "PUT /api/v1/sample/files/x"):
        problem(gunicorn.request(path, b"zz\r\nabc\r\n0\r\n\r\n", chunked, json_type), 400, "bad-request")
        broken_off = gunicorn.request(path, b"abc", "Content-Length: 100", json_type, shut=True)
        assert broken_off.status == 400
        assert broken_off.headers["X-Request-Id"]
    whole = gunicorn.request("PUT /api/v1/sample/files/x", b"3\r\nabc\r\n0\r\n\r\n", chunked)
    assert whole.status == 201, "nothing of the broken ones was kept"

    head = gunicorn.request("HEAD /api/v1/usage")
    assert (head.status, head.body, head.headers["Content-Type"]) == (200, b"", "application/json")
    options = gunicorn.request("OPTIONS /api/v1/check")
    assert (options.status, set(options.headers["Allow"].split(", ")), options.body) == (200, {"OPTIONS", "POST"}, b"")
    large = gunicorn.request("PUT /api/v1/sample/files/x", b"", "Content-Length: 10485761")
    problem(large, 413, "content-too-large")


def test_what_is_no_http_is_refused_before_it_reaches_the_product(gunicorn: Gunicorn) -> None:
    assert {what: gunicorn.send(raw).status for what, raw in NO_HTTP.items()} == dict.fromkeys(NO_HTTP, 400)
    assert gunicorn.request("GET /healthz").status == 200
