"""The wire to Redis: whatever happens to a command, the next one gets its own answer."""

import multiprocessing
import socket
import warnings

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from metering.embedded import Addresses
from metering.intake import wire
from metering.runtime import connect_redis


@pytest.fixture
def client(servers: Addresses):
    client = connect_redis(servers.redis_url, 5)
    yield client
    client.close()


def test_a_connection_serves_many_commands(client: Redis) -> None:
    numbers = {wire.execute(client, "CLIENT", "ID") for _ in range(10)}

    assert len(numbers) == 1


def test_an_error_of_a_command_leaves_its_connection_as_it_was(client: Redis) -> None:
    before = wire.execute(client, "CLIENT", "ID")
    with pytest.raises(ResponseError):
        wire.execute(client, "NONSENSE")

    assert wire.execute(client, "CLIENT", "ID") == before


def test_an_answer_that_was_not_read_is_never_the_next_commands(client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a worker is told to stop between sending and reading."""
    wire.execute(client, "PING")
    connection, _ = wire._kept[client.connection_pool][0]

    def broken_off(**_: object) -> object:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(connection, "read_response", broken_off)
        with pytest.raises(SystemExit):
            wire.execute(client, "ECHO", "not read")

    assert wire.execute(client, "ECHO", "mine") == b"mine"


def test_a_connection_that_broke_while_it_was_trusted_fails_once(client: Redis) -> None:
    wire.execute(client, "PING")
    connection, _ = wire._kept[client.connection_pool][0]
    connection._sock.shutdown(socket.SHUT_RDWR)

    with pytest.raises(RedisConnectionError):
        wire.execute(client, "PING")

    assert wire.execute(client, "PING") == b"PONG"


def test_a_connection_that_was_idle_is_looked_at_first(client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "TRUSTED_SECONDS", -1)
    wire.execute(client, "PING")
    connection, _ = wire._kept[client.connection_pool][0]
    connection._sock.shutdown(socket.SHUT_RDWR)

    assert wire.execute(client, "PING") == b"PONG"


def test_a_forked_child_takes_none_of_its_parents_connections(client: Redis) -> None:
    mine = wire.execute(client, "CLIENT", "ID")
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=lambda: answers.put(wire.execute(client, "CLIENT", "ID")))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forking beside threads
        child.start()
    theirs = answers.get()
    child.join()

    assert theirs != mine
    assert wire.execute(client, "CLIENT", "ID") == mine


def test_closing_the_client_closes_them_too(client: Redis) -> None:
    wire.execute(client, "PING")
    connection, _ = wire._kept[client.connection_pool][0]

    client.close()

    assert connection._sock is None
