"""RQ: its queues, workers and jobs, and the recurring schedule."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from flask import request, url_for
from flask.typing import ResponseReturnValue
from redis import Redis
from redis.exceptions import RedisError

from metering import jobs as product_jobs
from metering import queues as rq_queues
from metering.dashboard.view_models import Fragment
from metering.operator.access import Operator, operator_action, operator_page
from metering.operator.pages import When, blueprint, fragment, render, when
from metering.queues import JobSeen, QueueLengths
from metering.runtime import Runtime

LISTS = {
    "failed": rq_queues.failed_jobs,
    "running": rq_queues.running_jobs,
    "waiting": rq_queues.waiting_jobs,
    "scheduled": rq_queues.scheduled_jobs,
}
ALIVE_SECONDS = 90.0
NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class WorkerView:
    name: str
    queues: str
    where: str
    state: str
    job: str
    heartbeat: When | None
    alive: bool
    done: str


@dataclass(frozen=True, slots=True)
class Recurs:
    """A job of the schedule."""

    name: str
    what: str
    every: str
    last: When | None
    next: When | None


@dataclass(frozen=True, slots=True)
class JobView:
    """`queue` is set where it is not the usual one."""

    id: str
    name: str
    queue: str
    arguments: str
    state: str
    at: When | None
    fault: str
    fault_line: str


@dataclass(frozen=True, slots=True)
class QueuesView(Fragment):
    queues: tuple[QueueLengths, ...]
    workers: tuple[WorkerView, ...]
    schedule: tuple[Recurs, ...]
    scheduler: When | None
    jobs: tuple[JobView, ...]
    shown: str
    queue: str | None
    away: bool = False


@blueprint.get("/queues")
@operator_page
def queues(operator: Operator) -> ResponseReturnValue:
    return render(operator, "queues", view=_view(operator.runtime))


@blueprint.get("/live/queues")
@operator_page
def live_queues(operator: Operator) -> ResponseReturnValue:
    return fragment(_view(operator.runtime), "queues")


@blueprint.post("/queues/jobs/<job_id>/retry")
@operator_action(lambda **_: url_for("operator.queues"))
def retry_job(operator: Operator, job_id: str) -> str:
    with operator.changing() as change:
        job = rq_queues.retry_job(operator.runtime.queue_redis, job_id)
        change.note("job.retry", job=job.id, function=job.function, fault=job.fault_line)
    return f"{job.function} is put in again."


@blueprint.post("/queues/jobs/<job_id>/delete")
@operator_action(lambda **_: url_for("operator.queues"))
def drop_job(operator: Operator, job_id: str) -> str:
    with operator.changing() as change:
        job = rq_queues.drop_job(operator.runtime.queue_redis, job_id)
        change.note("job.delete", job=job.id, function=job.function, state=job.state)
    return f"The job {job.function} is deleted."


def _view(runtime: Runtime) -> QueuesView:
    shown = request.args.get("show", "failed")
    shown = shown if shown in LISTS else "failed"
    queue = request.args.get("queue", "")[:100] or None
    now, redis = runtime.clock(), runtime.queue_redis
    try:
        lengths = rq_queues.lengths(redis)
        return QueuesView(
            queues=tuple(lengths),
            workers=tuple(_worker(one, now) for one in rq_queues.workers(redis)),
            schedule=_schedule(runtime, now),
            scheduler=when(rq_queues.scheduler_seen_at(redis), now),
            jobs=tuple(_job(one, now) for one in _jobs(redis, shown, [queue] if queue else [q.name for q in lengths])),
            shown=shown,
            queue=queue,
        )
    except RedisError:
        return QueuesView((), (), (), None, (), shown, queue, away=True)


def _jobs(redis: Redis, shown: str, names: Sequence[str]) -> list[JobSeen]:
    """Of these queues, the newest first; of the waiting ones the next."""
    found = [job for name in names for job in LISTS[shown](redis, name)]
    if len(names) > 1 and shown == "failed":
        found.sort(key=lambda job: job.ended_at or job.enqueued_at or NEVER, reverse=True)
    return found[: rq_queues.LISTED]


def _worker(one: rq_queues.WorkerSeen, now: datetime) -> WorkerView:
    beat = one.heartbeat_at
    return WorkerView(
        one.name[:12],
        queues=", ".join(one.queues),
        where=f"{one.host}, process {one.pid}",
        state=one.state,
        job=_short(one.job or ""),
        heartbeat=when(beat, now),
        alive=beat is not None and (now - beat).total_seconds() < ALIVE_SECONDS,
        done=f"{one.done:,} done, {one.failed:,} failed",
    )


def _schedule(runtime: Runtime, now: datetime) -> tuple[Recurs, ...]:
    last = rq_queues.last_enqueued(runtime.queue_redis)
    found = []
    for recurring in product_jobs.SCHEDULE:
        job = recurring.job
        ran = last.get(f"{job.__module__}.{job.__name__}")
        following = None if ran is None else ran + timedelta(seconds=recurring.seconds)
        what, every = _what(job.__doc__ or ""), _every(recurring.seconds)
        found.append(Recurs(job.__name__, what, every, when(ran, now), when(following, now)))
    return tuple(found)


def _what(docstring: str) -> str:
    """The first sentence, without what the job answers."""
    return " ".join(docstring.partition("\n\n")[0].split()).partition(";")[0].replace("`", "").removesuffix(".")


def _every(seconds: int) -> str:
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"


def _job(one: JobSeen, now: datetime) -> JobView:
    return JobView(
        one.id,
        name=_short(one.function),
        queue="" if one.queue == rq_queues.QUEUE else one.queue,
        arguments=one.arguments,
        state=one.state,
        at=when(one.ended_at or one.enqueued_at, now),
        fault=(one.fault or "").strip(),
        fault_line=one.fault_line,
    )


def _short(function: str) -> str:
    return function.removeprefix("metering.jobs.")
