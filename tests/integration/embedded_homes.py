"""What the tests of the embedded servers share: write, read, kill."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator

import psycopg
import redis

from metering.embedded import Addresses, Embedded

DEADLINE_SECONDS = 10


@contextlib.contextmanager
def postgres_of(addresses: Addresses) -> Iterator[psycopg.Connection]:
    url = addresses.database_url.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@contextlib.contextmanager
def redis_of(addresses: Addresses) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(addresses.redis_url, decode_responses=True)
    try:
        yield client
    finally:
        client.close()


def write(addresses: Addresses, value: str) -> None:
    with postgres_of(addresses) as connection, redis_of(addresses) as client:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (value text)")
        connection.execute("INSERT INTO kept VALUES (%s)", [value])
        client.rpush("kept", value)


def read(addresses: Addresses) -> tuple[list[str], list[str]]:
    """What PostgreSQL and what Redis kept."""
    with postgres_of(addresses) as connection, redis_of(addresses) as client:
        rows = connection.execute("SELECT value FROM kept ORDER BY value").fetchall()
        return [row[0] for row in rows], [str(value) for value in client.lrange("kept", 0, -1)]


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def kill(embedded: Embedded, *names: str) -> None:
    for name in names:
        [pid] = embedded.pids()[name]
        os.kill(pid, signal.SIGKILL)
