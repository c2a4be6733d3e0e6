"""From empty servers to a product that takes usage; safe to run again, and by two processes at once."""

from collections.abc import Callable
from datetime import datetime

from redis.exceptions import RedisError

from metering.errors import IntakeUnavailable
from metering.intake import scripts
from metering.runtime import Runtime
from metering.store import schema
from metering.store.meters import prepare
from metering.store.rebuild import open_partition, rebuild
from metering.store.state import send_unsent

Report = Callable[[str], object]


def initialise(runtime: Runtime, *, report: Report) -> None:
    """Schema, event months, partitions, meters, live counters.

    Raises:
        ConfigurationError: the catalog or the number of partitions contradicts what is stored.
        IntakeUnavailable: Redis is away.
    """
    report("bringing the schema up to date")
    schema.upgrade(runtime.engine)
    now = runtime.clock()
    with runtime.transaction() as session:
        schema.create_event_months(session.connection(), now)
        prepare(session, runtime.file_catalog, runtime.settings.partitions)
    runtime.refresh_meters()
    waiting = [number for number in range(runtime.settings.partitions) if not _is_open(runtime, number)]
    if waiting:
        report(f"building the live counters of {len(waiting)} partitions")
    for number in waiting:
        with runtime.transaction() as session:
            generation = rebuild(session, runtime.redis, runtime.catalog, number, now=now)
        if generation is not None:
            open_partition(runtime.redis, number, generation)
    while _send_some(runtime, now):
        pass


def _send_some(runtime: Runtime, now: datetime) -> int:
    """A transaction for each sweep: with many customers, what was sent stays sent should the rest fail."""
    with runtime.transaction() as session:
        return send_unsent(session, runtime.redis, runtime.catalog, now=now)


def _is_open(runtime: Runtime, partition: int) -> bool:
    try:
        return bool(runtime.redis.exists(scripts.prefix(partition) + "gen"))
    except RedisError as error:
        raise IntakeUnavailable("Redis did not answer") from error
