"""The background of the product: the keeper, RQ's schedule and RQ's worker, each a process of its own.

Redis away stops none of them: each waits and begins again by itself.
"""

import signal
import time
from collections.abc import Callable
from types import FrameType

import structlog
from redis.exceptions import RedisError
from rq import Queue
from rq.cron import CronScheduler
from rq.worker import SimpleWorker

from metering import jobs
from metering.keeper import Keeper
from metering.logs import configure_logs
from metering.runtime import Runtime, build_runtime
from metering.settings import load_settings

RETRY_SECONDS = 2

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
                jobs.QUEUE,
                interval=recurring.seconds,
                ttl=recurring.seconds,
                job_timeout=jobs.MAX_JOB_SECONDS,
                result_ttl=3600,
                failure_ttl=7 * 24 * 3600,
            )
        scheduler.start()  # type: ignore[no-untyped-call]

    _while_redis_comes_and_goes(once)


def run_worker(runtime: Runtime) -> None:
    """Run jobs until SIGTERM, in this very process: they are short, and share its connections."""

    def once() -> None:
        queue = Queue(jobs.QUEUE, connection=runtime.queue_redis)
        SimpleWorker([queue], connection=runtime.queue_redis).work(logging_level="WARNING")

    _while_redis_comes_and_goes(once)


def _while_redis_comes_and_goes(work: Callable[[], None]) -> None:
    while True:
        try:
            work()
        except RedisError as error:
            log.warning("redis_unavailable", detail=str(error))
            time.sleep(RETRY_SECONDS)
        else:
            return


ROLES: dict[str, Callable[[Runtime], None]] = {"drain": run_drain, "schedule": run_schedule, "rq": run_worker}


def run(role: str) -> None:
    """Be one of the ROLES until told to stop."""
    settings = load_settings()
    configure_logs(settings)
    runtime = build_runtime(settings)
    try:
        ROLES[role](runtime)
    finally:
        runtime.close()
