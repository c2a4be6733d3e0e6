"""Is it alive, is it ready, and what does it do: `/healthz`, `/readyz`, `/metrics`."""

from collections.abc import Iterator
from typing import Any

from flask import Blueprint, Response, current_app
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from redis.exceptions import RedisError
from rq import Worker
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from metering import queues
from metering.intake import scripts
from metering.problems import to_json
from metering.runtime import Runtime
from metering.service import Metering
from metering.store.status import flow
from metering.stripe_sync import inbound
from metering.stripe_sync.reporting import stripe_status
from metering.stripe_sync.standing import last_accepted_age_seconds
from metering.stripe_sync.stops import stop_of

blueprint = Blueprint("health", __name__)

REQUIRED_REDIS = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}


def _runtime() -> Runtime:
    metering: Metering = current_app.extensions["metering"]
    return metering.runtime


@blueprint.get("/healthz")
def healthz() -> Response:
    """The process answers: no more is asked, so that an outage elsewhere restarts nobody."""
    return Response("ok\n", content_type="text/plain")


@blueprint.get("/readyz")
def readyz() -> Response:
    """Whether usage can be taken: each check with what is wrong, 503 when one fails.

    Reporting to Stripe that is stopped is told beside them, and takes nobody out of service: usage is kept meanwhile.
    """
    runtime = _runtime()
    checks = {"postgresql": check_postgresql(runtime), "redis": check_redis(runtime)}
    checks["generations"] = check_generations(runtime) if checks["redis"] is None else "not looked at"
    healthy = all(fault is None for fault in checks.values())
    body = {
        "ready": healthy,
        "checks": {name: fault or "ok" for name, fault in checks.items()},
        "stripe": check_stripe(runtime) if checks["postgresql"] is None else "not looked at",
    }
    return Response(to_json(body), 200 if healthy else 503, content_type="application/json")


def check_postgresql(runtime: Runtime) -> str | None:
    try:
        with runtime.transaction() as session:
            session.execute(text("SELECT 1 FROM partitions LIMIT 1"))
    except SQLAlchemyError as error:
        return type(error).__name__
    return None


def check_redis(runtime: Runtime) -> str | None:
    """Redis answers, and will not lose what it acknowledged."""
    try:
        wrong = [
            f"{name} is {value!r}, must be {wanted!r}"
            for name, wanted in REQUIRED_REDIS.items()
            if (value := _config(runtime, name)) != wanted
        ]
    except RedisError as error:
        return type(error).__name__
    return "; ".join(wrong) or None


def check_generations(runtime: Runtime) -> str | None:
    try:
        keys = [scripts.prefix(number) + "gen" for number in range(runtime.settings.partitions)]
        missing = [number for number, key in enumerate(keys) if not runtime.redis.exists(key)]
    except RedisError as error:
        return type(error).__name__
    return f"the counters of partitions {missing} wait to be rebuilt" if missing else None


def check_stripe(runtime: Runtime) -> str:
    """Whether reporting goes on, as far as is stored: Stripe itself is not asked."""
    if runtime.settings.stripe == "off":
        return "off"
    with runtime.transaction() as session:
        stopped = stop_of(session, runtime.settings)
    return stopped.message if stopped else "ok"


def _config(runtime: Runtime, name: str) -> str | None:
    answer: dict[Any, Any] = runtime.redis.config_get(name)
    value = answer.get(name, answer.get(name.encode()))
    return value.decode() if isinstance(value, bytes) else value


STRIPE_GAUGES = {
    "owed_hours": "Hours that are over and changed, which no row tells Stripe of yet",
    "pending": "Rows that wait to be sent to Stripe",
    "doubtful": "Rows of which nobody knows yet whether Stripe counted them",
    "parked": "Rows that Stripe refused and that nobody has decided on",
    "accepted_last_day": "Rows that Stripe accepted within a day",
    "stopped": "1 while nothing is sent because Stripe refuses the key",
    "events_failed": "Webhook events that were given up",
    "events_waiting": "Webhook events that wait to be followed",
}
"""Of what `status` shows, what is worth watching."""


def stripe_gauges(runtime: Runtime, session: Session) -> Iterator[tuple[str, float, str]]:
    """Name, value and meaning; none with METERING_STRIPE=off."""
    if runtime.settings.stripe == "off":
        return
    figures = stripe_status(runtime, session)
    figures |= {f"stripe_{name}": float(value) for name, value in inbound.counts(session, runtime.catalog).items()}
    for name, meaning in STRIPE_GAUGES.items():
        yield f"stripe_{name}", figures.get(f"stripe_{name}", 0.0), meaning
    age = last_accepted_age_seconds(session, runtime)
    if age is not None:
        yield "stripe_last_accepted_age_seconds", age, "How long ago Stripe accepted a row last"


def add_queue_gauges(runtime: Runtime, registry: CollectorRegistry) -> None:
    """Jobs by queue and state; nothing while the queue's Redis is away."""
    try:
        found, working = queues.lengths(runtime.queue_redis), Worker.count(connection=runtime.queue_redis)
    except RedisError:
        return
    jobs = Gauge("metering_queue_jobs", "Jobs of RQ", ["queue", "state"], registry=registry)
    for one in found:
        for state in ("waiting", "running", "failed", "scheduled"):
            jobs.labels(one.name, state).set(getattr(one, state))
    Gauge("metering_queue_workers", "Workers of RQ", registry=registry).set(working)


@blueprint.get("/metrics")
def metrics() -> Response:
    """What operators watch, in Prometheus' text format, read at the moment it is asked for."""
    runtime = _runtime()
    registry = CollectorRegistry()
    with runtime.transaction() as session:
        state = flow(session, runtime.redis, now=runtime.clock())
        at_stripe = stripe_gauges(runtime, session)
    for name, value, help_text in (*state.gauges(), *at_stripe):
        Gauge(f"metering_{name}", help_text, registry=registry).set(value)
    add_queue_gauges(runtime, registry)
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
