"""Commands to Redis and their answers, in as little time as can be: each metered call waits for two of them.

The client's own way wraps each command in retries and telemetry, polls the socket and packs in Python, which takes as
long again as Redis itself. Connections come from the client's pool, which also closes them, but are kept out of it
between commands: nobody else sends on them, so none is ever kept with an answer that was not read.
"""

import os
from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary

from hiredis import pack_command
from redis import Connection, ConnectionPool, Redis
from redis.exceptions import ResponseError

TRUSTED_SECONDS = 1.0
"""A connection that was used so lately is believed to be open; an older one is looked at by the pool."""

Idle = deque[tuple[Connection, float]]

_kept: "WeakKeyDictionary[ConnectionPool, Idle]" = WeakKeyDictionary()
os.register_at_fork(after_in_child=_kept.clear)  # a child must not speak on its parent's connections


def execute(redis: Redis, *command: str | bytes | int | float) -> Any:
    """The answer to one command, texts as bytes. Raises redis.RedisError."""
    (answer,) = execute_all(redis, [command])
    if isinstance(answer, ResponseError):
        raise answer
    return answer


def execute_all(redis: Redis, commands: Sequence[tuple[str | bytes | int | float, ...]]) -> list[Any]:
    """The answers to commands that are sent at once, and so become durable at once; an error answer stands for itself.

    Raises redis.RedisError where they did not come.
    """
    pool = redis.connection_pool
    idle = _kept.get(pool)
    if idle is None:
        idle = _kept.setdefault(pool, deque())
    connection = _take(pool, idle)
    try:
        packed = b"".join([pack_command(command) for command in commands])  # type: ignore[arg-type]  # of any length
        connection.send_packed_command((packed,), check_health=False)  # type: ignore[no-untyped-call]
        return [_answer(connection) for _ in commands]
    except BaseException:
        # An answer that was not read must not become that of the next command. The next one connects anew.
        connection.disconnect()  # type: ignore[no-untyped-call]
        raise
    finally:
        idle.append((connection, monotonic()))


def _answer(connection: Connection) -> Any:
    try:
        return connection.read_response(disable_decoding=True)
    except ResponseError as error:
        return error


def _take(pool: ConnectionPool, idle: Idle) -> Connection:
    try:
        connection, used_at = idle.pop()
    except IndexError:
        return pool.get_connection()
    if monotonic() - used_at <= TRUSTED_SECONDS:
        return connection
    pool.release(connection)
    return pool.get_connection()
