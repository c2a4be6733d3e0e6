"""The processes of the background, as `worker.py` starts them, when something goes wrong."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from rq import Queue, get_current_job

from metering.embedded import Addresses
from metering.jobs import QUEUE
from tests.factories.world import PARTITIONS, World

DEADLINE_SECONDS = 60


def spoil_the_record() -> None:
    """A job after which RQ can't write down how it ended, as when Redis is away just then and back a moment later."""
    job = get_current_job()
    assert job is not None
    job.connection.set(job.key, "no hash")


@pytest.fixture
def worker(world: World, servers: Addresses, project_root: Path) -> Iterator["subprocess.Popen[bytes]"]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("METERING_")}
    env |= {"METERING_ENV": "development", "METERING_PARTITIONS": str(PARTITIONS)}
    env |= {"METERING_DATABASE_URL": servers.database_url, "METERING_REDIS_URL": servers.redis_url}
    command = [sys.executable, "worker.py", "--only", "rq"]
    with subprocess.Popen(
        command, cwd=project_root, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as it:
        yield it
        it.kill()


def test_the_worker_goes_on_when_the_loop_of_rq_ends_and_ends_when_it_is_told_to(
    worker: "subprocess.Popen[bytes]", redis: Redis
) -> None:
    queue = Queue(QUEUE, connection=redis)
    queue.enqueue(spoil_the_record)
    later = queue.enqueue("metering.jobs.make_event_months", result_ttl=DEADLINE_SECONDS)
    wait_until(worker, lambda: later.is_finished)

    worker.send_signal(signal.SIGTERM)
    assert worker.wait(DEADLINE_SECONDS) == 0


def wait_until(worker: "subprocess.Popen[bytes]", condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert worker.poll() is None, "the worker has ended"
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)
