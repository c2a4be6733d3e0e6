"""The real PostgreSQL and Redis that run when no address of one's own is set: their only starter.

What always holds: one data folder has at most one server, because each server and all of its children
hold an open lock file for as long as they live; nothing listens on TCP; only a server that holds our
lock is ever signalled. A server that a kill left behind is adopted if it is the one we would start,
and otherwise replaced.
"""

from metering.embedded.errors import EmbeddedError
from metering.embedded.servers import Addresses, Embedded

__all__ = ["Addresses", "Embedded", "EmbeddedError"]
