"""A door in front of a server that a test shuts and opens: the server behind it goes on, for everybody else."""

import socket
import threading
from contextlib import suppress

from sqlalchemy import make_url

from tests.factories.processes import free_ports

CHUNK = 65536


class FaultProxy:
    """Listens on loopback and forwards to a unix socket. While it is cut, connections are refused and none survives."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self.port = free_ports()
        self.mend()

    def mend(self) -> None:
        if self._listener is not None:
            return
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        listener, self._listener = self._listener, None
        if listener is None:
            return
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # or the thread that waits in accept would take one more
        listener.close()
        with self._lock:
            for end in self._open:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._target)
            with self._lock:
                self._open |= {near, far}
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while part := source.recv(CHUNK):
                sink.sendall(part)
        with self._lock:
            for end in (source, sink):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
                self._open.discard(end)


def postgres_proxy(url: str) -> tuple[FaultProxy, str]:
    """A door to the PostgreSQL at `url` (a unix socket), and the URL that leads through it."""
    address = make_url(url)
    folder = address.query["host"]
    proxy = FaultProxy(f"{folder}/.s.PGSQL.{address.query.get('port', address.port or 5432)}")
    through = address.set(host="127.0.0.1", port=proxy.port).difference_update_query(["host", "port"])
    return proxy, through.render_as_string(hide_password=False)


def redis_proxy(url: str) -> tuple[FaultProxy, str]:
    """The same for a Redis."""
    proxy = FaultProxy(url.removeprefix("unix://").partition("?")[0])
    return proxy, f"redis://127.0.0.1:{proxy.port}/0"
