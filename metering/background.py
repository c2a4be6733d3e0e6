"""The background of the product: the keeper, RQ's schedule and RQ's workers, each a process of its own.

Redis away stops none of them: each waits and begins again by itself.
"""

import gc
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType

import structlog
from redis.exceptions import RedisError
from rq import Queue
from rq.cron import CronScheduler
from rq.exceptions import StopRequested
from rq.worker import SimpleWorker

from metering import jobs, queues
from metering.keeper import Keeper
from metering.logs import configure_logs
from metering.runtime import Runtime, build_runtime
from metering.settings import load_settings
from metering.stripe_sync.reporting import check_start

RETRY_SECONDS = 2
TTL_SECONDS = 75
"""A worker that has nothing to do says that it lives a quarter of a minute before this is over: once a minute."""

log = structlog.get_logger("metering.background")


def run_drain(runtime: Runtime) -> None:
    """Keep the streams drained until SIGTERM."""
    keeper = Keeper(runtime)

    def stop(_: int, __: FrameType | None) -> None:
        keeper.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    keeper.run()


def run_schedule(runtime: Runtime) -> None:
    """Enqueue recurring jobs until SIGTERM. A job nobody has run by the time of the next is dropped for it."""

    def once() -> None:
        scheduler = CronScheduler(connection=runtime.queue_redis, logging_level="WARNING")
        for recurring in jobs.SCHEDULE:
            scheduler.register(
                recurring.job,
                queues.QUEUE,
                interval=recurring.seconds,
                ttl=recurring.seconds,
                job_timeout=queues.MAX_JOB_SECONDS,
                result_ttl=3600,
                failure_ttl=7 * 24 * 3600,
            )
        scheduler.start()  # type: ignore[no-untyped-call]

    _while_redis_comes_and_goes(once)


class Worker(SimpleWorker):
    """Runs jobs in this very process: they are short, and share its connections. It knows why its loop ended."""

    told_to_stop = False

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        self.told_to_stop = True
        super().request_stop(signum, frame)  # type: ignore[no-untyped-call]


def run_worker(runtime: Runtime, queue: str = queues.QUEUE) -> None:
    """Run the jobs of that queue until SIGTERM."""
    with suppress(StopRequested):  # told while RQ's loop does not run
        while not _worked_until_told(runtime, queue):
            time.sleep(RETRY_SECONDS)


def _worked_until_told(runtime: Runtime, queue: str) -> bool:
    """Work; whether it ended because it was told to. RQ's loop ends at a fault as well, and often without raising it:
    where Redis was away for a moment only, the worker would be gone for good.
    """
    worker = None
    try:
        redis = runtime.queue_redis
        worker = Worker([Queue(queue, connection=redis)], connection=redis, worker_ttl=TTL_SECONDS)
        worker.work(logging_level="WARNING")
    except RedisError as error:
        log.warning("redis_unavailable", detail=str(error))
    return worker is not None and worker.told_to_stop


def _while_redis_comes_and_goes(work: Callable[[], None]) -> None:
    while True:
        try:
            work()
        except RedisError as error:
            log.warning("redis_unavailable", detail=str(error))
            time.sleep(RETRY_SECONDS)
        else:
            return


ROLES: dict[str, Callable[[Runtime], None]] = {
    "drain": run_drain,
    "schedule": run_schedule,
    "rq": run_worker,
    "checks": partial(run_worker, queue=queues.CHECKS),
}


def run(role: str) -> None:
    """Be one of the ROLES until told to stop."""
    settings = load_settings()
    configure_logs(settings)
    runtime = build_runtime(settings)
    gc.freeze()  # what is here by now lives as long as the process
    try:
        if role in ("rq", "checks"):
            check_start(runtime)
        ROLES[role](runtime)
    finally:
        runtime.close()
