"""A crowd of clients against two web processes: no limit is passed at any moment, and the counts are exact."""

import queue
import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from metering.embedded import Addresses
from tests.factories.world import PARTITIONS, World
from tests.faults.crowd import PATIENCE_SECONDS, Client, Connection, Job, Log, Sampler, Web, web_processes

pytestmark = pytest.mark.xdist_group("products")

THREADS = 64
LEASE_SECONDS = 2
JOBS = 5_000
KILLS_AFTER = (800, 1_800, 2_800)


@pytest.fixture
def crowd_world(world: World) -> World:
    """At the time that the web processes have."""
    world.now = datetime.now(UTC)
    return world


def test_of_1600_calls_exactly_1000_pass_a_limit_of_1000(
    crowd_world: World, servers: Addresses, tmp_path: Path
) -> None:
    world = crowd_world
    secret = world.key(world.customer()).secret
    with running(servers, tmp_path, "wsgi:app") as webs:

        def ping_25_times(number: int) -> list[int]:
            with closing(Connection(webs[number % len(webs)].socket)) as connection:
                headers = {"Authorization": f"Bearer {secret}"}
                return [Web.call(connection, "GET", "/api/v1/sample/ping", headers)[0] for _ in range(25)]

        with ThreadPoolExecutor(THREADS) as pool:
            statuses = [status for some in pool.map(ping_25_times, range(THREADS)) for status in some]

    assert (statuses.count(200), statuses.count(429)) == (1_000, 600)
    assert (world.used(), world.held()) == (1_000, 0)
    world.drain()
    assert world.total() == 1_000


def test_a_crowd_with_failures_repetitions_and_kills_is_counted_exactly(
    crowd_world: World, servers: Addresses, tmp_path: Path
) -> None:
    world = crowd_world
    secret = world.key(world.customer(plan="pro")).secret
    limits = {"api_call": 100_000, "tokens": 1_000_000}
    before = {"api_call": limits["api_call"] - 12_000, "tokens": limits["tokens"] - 5_000}
    world.record(*(world.event(meter=meter, quantity=quantity) for meter, quantity in before.items()))
    log = Log()

    with (
        running(servers, tmp_path, "tests.faults.crowd_app:app", lease_seconds=LEASE_SECONDS) as webs,
        Sampler(world.intake, "acme", list(limits)) as sampler,
    ):
        make_calls(webs, secret, log)

    world.now = datetime.now(UTC) + timedelta(seconds=LEASE_SECONDS + 1)
    used = {
        "api_call": sum(job.units for job in log.served.values()),
        "tokens": sum(job.tokens for job in log.served.values()),
    }
    assert sampler.past_limit == []
    assert sampler.samples > 200
    assert sampler.most_held > 0
    assert log.calls >= JOBS
    assert log.replayed > 50
    assert log.broken > 0, "no call was under way when a web process was killed"
    assert log.statuses[500] > 100
    assert log.statuses[429] > 500
    world.drain()
    for meter, limit in limits.items():
        assert world.used(meter) == before[meter] + used[meter] == world.total(meter)
        assert world.held(meter) == 0
        # Short of it by no more than what the calls of all threads may hold when the last job is refused.
        assert limit - 64 * 7 < world.used(meter) <= limit, "both limits were reached"
    assert not any(event.overshoot for event in world.events())


def test_a_client_that_hangs_up_pays_for_what_was_produced(
    crowd_world: World, servers: Addresses, tmp_path: Path
) -> None:
    world = crowd_world
    secret = world.key(world.customer(plan="pro")).secret
    wanted = 100_000
    body = orjson.dumps({"prompt": "the cat sat on the mat and the dog sat on the cat", "max_tokens": wanted})
    with running(servers, tmp_path, "wsgi:app") as webs:
        with closing(Connection(webs[0].socket)) as connection:
            headers = {"Authorization": f"Bearer {secret}"}
            connection.request("POST", "/api/v1/sample/complete", body=body, headers=headers)
            with closing(connection.getresponse()) as answer:
                assert answer.status == 200
                read = answer.read(1_000)
                assert world.held("tokens") == wanted

        deadline = time.monotonic() + PATIENCE_SECONDS
        while world.held("tokens"):
            assert time.monotonic() < deadline, "the call was never settled"
            time.sleep(0.02)

    assert len(read.split()) <= world.used("tokens") < wanted
    assert (world.used(), world.held()) == (1, 0)


def make_calls(webs: list[Web], secret: str, log: Log) -> None:
    dice = random.Random(2026)
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for number in range(JOBS):
        jobs.put(Job.drawn(number, dice))

    def work() -> None:
        client = Client(webs, secret, log)
        try:
            while True:
                client.do(jobs.get_nowait())
        except queue.Empty:
            client.close()

    with ThreadPoolExecutor(THREADS + 1) as pool:
        futures = [pool.submit(work) for _ in range(THREADS)]
        futures.append(pool.submit(kill_some, webs, jobs))
        for future in futures:
            future.result()


def kill_some(webs: list[Web], jobs: "queue.SimpleQueue[Job]") -> None:
    """Kill a web process each time so many calls have begun, whatever it is doing."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    for number, begun in enumerate(KILLS_AFTER):
        while JOBS - jobs.qsize() < begun:
            assert time.monotonic() < deadline, "the crowd does not get on"
            time.sleep(0.005)
        webs[number % len(webs)].kill()


def running(servers: Addresses, folder: Path, application: str, **settings: object):  # type: ignore[no-untyped-def]
    addresses = {"database_url": servers.database_url, "redis_url": servers.redis_url}
    return web_processes(folder, application, 2, partitions=PARTITIONS, **addresses, **settings)
