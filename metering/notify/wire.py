"""One signed request to one address, and what it answered.

The socket is opened to the very address that was checked; TLS proves that the host behind it is the one that was named.
Redirects are answers like any other, and no proxy of the environment is asked.
"""

import http.client
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass

from metering.notify.destination import BadDestination, Destination, Resolver, destination, resolve

SECONDS = 10.0
"""For all of it: connecting, sending, and reading what is kept of the answer."""

KEPT_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Outcome:
    """Either a status with the beginning of the body, or why there is none."""

    status: int | None = None
    response: str | None = None
    fault: str | None = None

    @property
    def succeeded(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_gone(self) -> bool:
        return self.status == http.client.GONE


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    loopback: bool = False,
    resolver: Resolver | None = None,
    seconds: float = SECONDS,
) -> Outcome:
    """Never raises: whatever goes wrong at the other end is the outcome."""
    try:
        where = destination(url, loopback=loopback)
        addresses = resolve(where, resolver)
        return _exchange(where, addresses, body, headers, seconds)
    except BadDestination as error:
        return Outcome(fault=error.message)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Outcome(fault=f"{type(error).__name__}: {error}"[:300])


def _exchange(
    where: Destination, addresses: Sequence[str], body: bytes, headers: Mapping[str, str], seconds: float
) -> Outcome:
    connection = http.client.HTTPConnection(where.host, where.port, timeout=seconds)
    late = threading.Event()
    with closing(connection), _connected(where, addresses, seconds) as opened:
        # A time-out of the socket begins anew with each byte: who sends one now and then would never run into it.
        clock = threading.Timer(seconds, _hang_up, (opened, late))
        clock.start()
        try:
            if isinstance(opened, ssl.SSLSocket):
                opened.do_handshake()
            connection.sock = opened
            connection.request("POST", where.target, body, {"Host": where.named, **headers})
            answer = connection.getresponse()
            text = answer.read(KEPT_BYTES).decode("utf-8", "replace").replace("\0", "")
            answer.close()
            return Outcome(answer.status, text)
        except (OSError, http.client.HTTPException) as error:
            if late.is_set():
                raise TimeoutError(f"no answer within {seconds:g} seconds") from error
            raise
        finally:
            clock.cancel()


def _connected(where: Destination, addresses: Sequence[str], seconds: float) -> socket.socket:
    """A socket to the first of these addresses that takes one. Raises OSError."""
    fault = OSError(f"{where.host} has no address")
    for address in addresses:
        try:
            plain = socket.create_connection((address, where.port), timeout=seconds / len(addresses))
        except OSError as error:
            fault = error
            continue
        plain.settimeout(seconds)
        if where.scheme != "https":
            return plain
        return ssl.create_default_context().wrap_socket(
            plain, server_hostname=where.host, do_handshake_on_connect=False
        )
    raise fault


def _hang_up(opened: socket.socket, late: threading.Event) -> None:
    late.set()
    with suppress(OSError):
        socket.socket.shutdown(opened, socket.SHUT_RDWR)  # TLS's own would meddle with what another thread reads
