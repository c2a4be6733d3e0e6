"""RQ's queues: what waits there, who works, what failed; and putting a job in by its dotted name.

Every reader raises RedisError while the queue's Redis is away.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from redis import Redis
from rq import Queue, Worker
from rq.cron import CronScheduler
from rq.cron_job_registry import get_registry_key
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.job import Job

from metering.errors import Conflict, NotFound

QUEUE = "metering"
CHECKS = "metering-checks"
"""What operators ask for and may take an hour: `verify`, comparisons with Stripe. Workers of its own make them, so that
no report, e-mail or webhook waits for one.
"""
MAX_JOB_SECONDS = 300
LISTED = 50


@dataclass(frozen=True, slots=True)
class QueueLengths:
    """How many jobs of a queue are in which state."""

    name: str
    waiting: int
    running: int
    failed: int
    scheduled: int


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """`job` is the function that it runs now. `heartbeat_at` is when it last said that it lives."""

    name: str
    queues: tuple[str, ...]
    host: str
    pid: int | None
    state: str
    job: str | None
    heartbeat_at: datetime | None
    started_at: datetime | None
    done: int
    failed: int


@dataclass(frozen=True, slots=True)
class JobSeen:
    """`fault` is the whole traceback of one that failed."""

    id: str
    queue: str
    function: str
    arguments: str
    state: str
    enqueued_at: datetime | None
    ended_at: datetime | None
    fault: str | None

    @property
    def fault_line(self) -> str:
        """The last line of the traceback: the exception itself."""
        return (self.fault or "").strip().rpartition("\n")[2]


def enqueue(
    redis: Redis, function: str, *arguments: Any, queue: str = QUEUE, timeout_seconds: int = MAX_JOB_SECONDS
) -> str:
    """The job's id. `function` by its dotted name."""
    into = Queue(queue, connection=redis)
    return into.enqueue(function, args=arguments, job_timeout=timeout_seconds, result_ttl=0).id


def lengths(redis: Redis) -> list[QueueLengths]:
    """Every queue that ever had a job; ours in any case."""
    queues = {queue.name: queue for queue in Queue.all(connection=redis)}
    for name in (QUEUE, CHECKS):
        queues.setdefault(name, Queue(name, connection=redis))
    return [
        QueueLengths(
            name,
            waiting=queue.count,
            running=queue.started_job_registry.get_job_count(cleanup=False),
            failed=queue.failed_job_registry.get_job_count(cleanup=False),
            scheduled=queue.scheduled_job_registry.get_job_count(cleanup=False),
        )
        for name, queue in sorted(queues.items())
    ]


def workers(redis: Redis) -> list[WorkerSeen]:
    found = []
    for worker in Worker.all(connection=redis):
        job = worker.get_current_job()
        found.append(
            WorkerSeen(
                worker.name,
                queues=tuple(worker.queue_names()),
                host=worker.hostname or "?",
                pid=worker.pid,
                state=str(worker.get_state()),
                job=job.func_name if job else None,
                heartbeat_at=_aware(worker.last_heartbeat),
                started_at=_aware(worker.birth_date),
                done=worker.successful_job_count,
                failed=worker.failed_job_count,
            )
        )
    return sorted(found, key=lambda one: one.name)


def scheduler_seen_at(redis: Redis) -> datetime | None:
    """When a schedule last said that it lives; None where none runs."""
    beats = [_aware(one.last_heartbeat) for one in CronScheduler.all(connection=redis)]
    return max((beat for beat in beats if beat is not None), default=None)


def last_enqueued(redis: Redis) -> Mapping[str, datetime]:
    """When the schedule last put each of its functions in, by dotted name."""
    rows = cast("list[tuple[bytes, float]]", redis.zrange(get_registry_key(), 0, -1, withscores=True))
    return {name.decode(): datetime.fromtimestamp(score, UTC) for name, score in rows}


def waiting_jobs(redis: Redis, queue: str) -> list[JobSeen]:
    """The first that will run."""
    found = Queue(queue, connection=redis)
    return _seen(redis, found.get_job_ids(0, LISTED))


def running_jobs(redis: Redis, queue: str) -> list[JobSeen]:
    registry = Queue(queue, connection=redis).started_job_registry
    return _seen(redis, registry.get_job_ids(0, LISTED - 1, cleanup=False))


def scheduled_jobs(redis: Redis, queue: str) -> list[JobSeen]:
    registry = Queue(queue, connection=redis).scheduled_job_registry
    return _seen(redis, registry.get_job_ids(0, LISTED - 1, cleanup=False))


def failed_jobs(redis: Redis, queue: str) -> list[JobSeen]:
    """The newest first."""
    registry = Queue(queue, connection=redis).failed_job_registry
    return _seen(redis, registry.get_job_ids(0, LISTED - 1, desc=True, cleanup=False))


def retry_job(redis: Redis, job_id: str) -> JobSeen:
    """Put a job that failed in again. Raises NotFound, and Conflict for one that did not fail."""
    job = _find(redis, job_id)
    seen = _as_seen(job)
    try:
        Queue(job.origin, connection=redis).failed_job_registry.requeue(job_id)
    except InvalidJobOperation:
        raise Conflict(f"the job is {seen.state}: only one that failed is put in again", job=job_id) from None
    return seen


def drop_job(redis: Redis, job_id: str) -> JobSeen:
    """Delete a job that waits or failed. Raises NotFound, and Conflict for one that runs."""
    job = _find(redis, job_id)
    seen = _as_seen(job)
    if seen.state == "started":
        raise Conflict("the job runs: it ends by itself, at the latest when its time is over", job=job_id)
    job.delete()
    return seen


def _find(redis: Redis, job_id: str) -> Job:
    try:
        return Job.fetch(job_id, connection=redis)
    except NoSuchJobError:
        raise NotFound("there is no such job any more", job=job_id) from None


def _seen(redis: Redis, ids: list[str]) -> list[JobSeen]:
    return [_as_seen(job) for job in Job.fetch_many(ids, connection=redis) if job is not None]


def _as_seen(job: Job) -> JobSeen:
    result = job.latest_result() if job.is_failed else None
    return JobSeen(
        job.id,
        queue=job.origin,
        function=job.func_name or "?",
        arguments=", ".join(repr(one) for one in job.args or ()),
        state=str(job.get_status(refresh=False) or "?").rpartition(".")[2].lower(),
        enqueued_at=_aware(job.enqueued_at),
        ended_at=_aware(job.ended_at),
        fault=result.exc_string if result else None,
    )


def _aware(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
