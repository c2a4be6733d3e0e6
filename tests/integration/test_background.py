"""The processes of the background, as `worker.py` starts them, when something goes wrong."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis import Redis
from rq import Queue, get_current_job

from metering.embedded import Addresses
from metering.queues import CHECKS, QUEUE
from tests.factories.world import PARTITIONS, World

DEADLINE_SECONDS = 60


def spoil_the_record() -> None:
    """A job after which RQ can't write down how it ended, as when Redis is away just then and back a moment later."""
    job = get_current_job()
    assert job is not None
    job.connection.set(job.key, "no hash")


def wait_to_be_let_go() -> None:
    """A job that takes as long as the test wants."""
    job = get_current_job()
    assert job is not None
    job.connection.blpop(["let go"], timeout=DEADLINE_SECONDS)


Start = Callable[[str], "subprocess.Popen[bytes]"]


@pytest.fixture
def start(world: World, servers: Addresses, project_root: Path) -> Iterator[Start]:
    """Starts one role of the background, in a process of its own."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("METERING_")}
    env |= {"METERING_ENV": "development", "METERING_PARTITIONS": str(PARTITIONS)}
    env |= {"METERING_DATABASE_URL": servers.database_url, "METERING_REDIS_URL": servers.redis_url}
    with ExitStack() as stack:

        def start(role: str) -> "subprocess.Popen[bytes]":
            command, quiet = [sys.executable, "worker.py", "--only", role], subprocess.DEVNULL
            it = stack.enter_context(subprocess.Popen(command, cwd=project_root, env=env, stdout=quiet, stderr=quiet))
            stack.callback(it.kill)
            return it

        yield start


def test_the_worker_goes_on_when_the_loop_of_rq_ends_and_ends_when_it_is_told_to(start: Start, redis: Redis) -> None:
    worker = start("rq")
    queue = Queue(QUEUE, connection=redis)
    queue.enqueue(spoil_the_record)
    later = queue.enqueue("metering.jobs.make_event_months", result_ttl=DEADLINE_SECONDS)
    wait_until(worker, lambda: later.is_finished)

    worker.send_signal(signal.SIGTERM)
    assert worker.wait(DEADLINE_SECONDS) == 0


def test_no_other_job_waits_for_a_check_that_takes_long(start: Start, redis: Redis) -> None:
    check = Queue(CHECKS, connection=redis).enqueue(wait_to_be_let_go)
    other = Queue(QUEUE, connection=redis).enqueue("metering.jobs.make_event_months", result_ttl=DEADLINE_SECONDS)
    checks, rq = start("checks"), start("rq")

    wait_until(checks, lambda: check.is_started)
    wait_until(rq, lambda: other.is_finished)
    assert check.is_started
    redis.rpush("let go", "now")
    wait_until(checks, lambda: check.is_finished)


def wait_until(worker: "subprocess.Popen[bytes]", condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert worker.poll() is None, "the worker has ended"
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)
