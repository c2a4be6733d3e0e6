"""Where webhooks may go: to public addresses alone, so that nobody has us call what only we can reach (SSRF).

Always holds: a name is resolved once, every address it has is looked at, and the connection is made to one that was
looked at: a name that says something else a moment later (DNS rebinding) leads nowhere else.
"""

import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from metering.errors import MeteringError

LONGEST = 2000
MOST_ADDRESSES = 4
PLAIN = re.compile(r"https?://[!-\[\]-~]+")
"""Visible ASCII without a backslash, which browsers and libraries read in different ways."""

DEFAULT_PORTS = {"https": 443, "http": 80}
# What `ipaddress` calls global although it leads to another address, or to whatever is nearest.
TRANSLATED = tuple(
    ip_network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96", "192.88.99.0/24")
)

Address = IPv4Address | IPv6Address
Resolver = Callable[[str, int], Sequence[str]]
"""All addresses of a name, as text. Raises OSError."""


class BadDestination(MeteringError):
    """An address that webhooks are not delivered to."""

    code = "invalid-request"


@dataclass(frozen=True, slots=True)
class Destination:
    """`target` is what the request line names. `loopback` is let in where this machine's own receivers are tested."""

    scheme: str
    host: str
    port: int
    target: str
    loopback: bool = False

    @property
    def named(self) -> str:
        """As the Host header says it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def destination(url: str, *, loopback: bool = False) -> Destination:
    """What a URL says, if webhooks may go there as far as it tells by itself. Raises BadDestination."""
    if len(url) > LONGEST or not PLAIN.fullmatch(url):
        raise BadDestination("The address must be a URL that begins with https://, in plain characters.")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme]
    except ValueError:
        raise BadDestination("The address is no valid URL.") from None
    if not host or "%" in host:
        raise BadDestination("The address names no host.")
    if parts.username is not None or parts.password is not None:
        raise BadDestination("The address must hold no user name or password: the signature says who sends.")
    if parts.scheme != "https" and not loopback:
        raise BadDestination("The address must begin with https://.")
    if port < 1024 and port not in DEFAULT_PORTS.values():
        raise BadDestination("The port must be 443, 80, or 1024 and above.")
    found = Destination(
        parts.scheme, host, port, (parts.path or "/") + (f"?{parts.query}" * bool(parts.query)), loopback
    )
    if (literal := _literal(host)) is not None:
        check(found, literal)
    elif "." not in host.rstrip(".") and not loopback:
        raise BadDestination("The address must name a host on the internet.")
    return found


def resolve(where: Destination, resolver: Resolver | None = None) -> Sequence[str]:
    """The addresses that a host has now, of which any may be connected to. Raises BadDestination, OSError."""
    addresses = (resolver or lookup)(where.host, where.port)
    for text in addresses:
        check(where, ip_address(text))
    return addresses[:MOST_ADDRESSES]


def lookup(host: str, port: int) -> Sequence[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(address[0]) for *_, address in found]


def check(where: Destination, address: Address) -> None:
    """Raises BadDestination for all but public addresses."""
    if where.loopback and address.is_loopback:
        return
    if where.scheme != "https" or not is_public(address):
        raise BadDestination(f"{where.host} is no public address. Webhooks go to hosts on the internet, by https.")


def is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and (
        address.ipv4_mapped is not None or address.is_site_local or address.scope_id is not None
    ):
        return False
    translated = any(
        address in network for network in TRANSLATED if isinstance(network, IPv6Network) == (address.version == 6)
    )
    return address.is_global and not (translated or address.is_multicast or address.is_reserved)


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
