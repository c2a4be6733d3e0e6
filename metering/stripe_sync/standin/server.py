"""Serves a WSGI application over HTTP/1.1 on threads, with connections kept alive.

Werkzeug's own server closes each connection after one answer, and Stripe's client keeps them open.
"""

from __future__ import annotations

import logging
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from werkzeug.wrappers import Response

from metering.stripe_sync.standin.errors import DroppedConnectionError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

logger = logging.getLogger(__name__)

# Turns the close of a socket into a TCP reset.
_LINGER_ZERO = struct.pack("ii", 1, 0)


class StandinServer(ThreadingHTTPServer):
    """Port 0 takes a free one; `server_port` says which."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, app: WSGIApplication) -> None:
        self.app = app
        self._answering = 0
        self._changed = threading.Condition()
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Without the reverse look-up of the host's name that the base class makes, which may hang."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    @contextmanager
    def answering(self) -> Iterator[None]:
        with self._changed:
            self._answering += 1
        try:
            yield
        finally:
            with self._changed:
                self._answering -= 1
                self._changed.notify_all()

    def wait_until_answered(self, seconds: float) -> None:
        """After `shutdown`: waits for the requests that are being answered, not for connections that are idle."""
        with self._changed:
            self._changed.wait_for(lambda: self._answering == 0, seconds)

    def shutdown_request(self, request: Any) -> None:
        """An orderly goodbye, unless the connection is to end with a reset."""
        if request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER):
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of ours."""
        if isinstance(sys.exception(), ConnectionError):
            logger.debug("client went away: %s", client_address)
        else:
            logger.exception("failed to serve %s", client_address)


class _Handler(BaseHTTPRequestHandler):
    server: StandinServer
    protocol_version = "HTTP/1.1"
    timeout = 120
    # One packet an answer, sent at once: small answers in two writes wait 40 ms for a delayed acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True

    def serve(self) -> None:
        with self.server.answering():
            self._answer()
            self.wfile.flush()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = serve  # noqa: N815

    def _answer(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            self.send_error(411)
            return
        body = self.rfile.read(int(length))
        try:
            response = Response.from_app(self.server.app, self._environ(body), buffered=True)
        except DroppedConnectionError as drop:
            self._drop(drop)
            return
        self.send_response(response.status_code)
        for name, value in response.headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.get_data())

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)

    def _drop(self, drop: DroppedConnectionError) -> None:
        self.close_connection = True
        if drop.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)

    def _environ(self, body: bytes) -> dict[str, Any]:
        path, _, query = self.path.partition("?")
        headers = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in self.headers.items()}
        return {
            **headers,
            "CONTENT_LENGTH": str(len(body)),
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "PATH_INFO": unquote(path, "latin-1"),
            "QUERY_STRING": query,
            "REMOTE_ADDR": str(self.client_address[0]),
            "REQUEST_METHOD": self.command,
            "SCRIPT_NAME": "",
            "SERVER_NAME": self.server.server_name,
            "SERVER_PORT": str(self.server.server_port),
            "SERVER_PROTOCOL": self.request_version,
            "wsgi.errors": sys.stderr,
            "wsgi.input": BytesIO(body),
            "wsgi.multiprocess": False,
            "wsgi.multithread": True,
            "wsgi.run_once": False,
            "wsgi.url_scheme": "http",
            "wsgi.version": (1, 0),
        }
