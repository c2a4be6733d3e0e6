"""The Lua scripts, loaded once: each is the prelude followed by its own file."""

from collections.abc import Sequence
from functools import cache
from hashlib import sha1
from importlib import resources
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError, RedisError

from metering.errors import IntakeUnavailable
from metering.intake.wire import execute, execute_all

Argument = str | bytes | int | float


@cache
def prefix(partition: int) -> str:
    """What all keys of a partition begin with; the braces make it one slot of a Redis Cluster."""
    return f"m:{{{partition}}}:"


@cache
def _source(name: str) -> tuple[str, str]:
    folder = resources.files("metering.intake").joinpath("lua")
    text = "\n".join(folder.joinpath(f"{part}.lua").read_text("utf-8") for part in ("prelude", name))
    return text, sha1(text.encode(), usedforsecurity=False).hexdigest()


def run(redis: Redis, name: str, partition: int, *args: Argument) -> Any:
    """Run a script on a partition.

    Raises:
        IntakeUnavailable: Redis did not answer. Whether the script ran is unknown; all scripts may be run again.
    """
    text, digest = _source(name)
    key = prefix(partition)
    try:
        try:
            return execute(redis, "EVALSHA", digest, 1, key, *args)
        except NoScriptError:
            return execute(redis, "EVAL", text, 1, key, *args)
    except RedisError as error:
        raise IntakeUnavailable("Redis did not answer") from error


def run_all(redis: Redis, name: str, calls: Sequence[tuple[int, Sequence[Argument]]]) -> list[Any]:
    """Run a script on several partitions, each with its arguments, in one round trip.

    Raises:
        IntakeUnavailable: Redis did not answer. Which of them ran is unknown; all scripts may be run again.
    """
    _, digest = _source(name)
    commands = [("EVALSHA", digest, 1, prefix(partition), *args) for partition, args in calls]
    try:
        answers = execute_all(redis, commands)
    except RedisError as error:
        raise IntakeUnavailable("Redis did not answer") from error
    return [
        run(redis, name, partition, *args) if isinstance(answer, RedisError) else answer
        for answer, (partition, args) in zip(answers, calls, strict=True)
    ]


def redis_run(redis: Redis) -> str:
    """The run of the Redis server that answers: another one after a restart, a failover or a restored copy.

    Raises redis.RedisError.
    """
    answer: dict[str, Any] = redis.info("server")
    return str(answer["run_id"])
