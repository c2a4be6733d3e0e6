"""What a process works with: settings, catalog, engine, Redis and the intake, built once from the settings.

Web, workers and commands share it; so does the extension in a host's app. Connections are opened on first use.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker

from metering import exact_json
from metering.catalog import Catalog, load_catalog
from metering.clock import Clock, utc_now
from metering.embedded import Addresses, Embedded
from metering.errors import ConfigurationError
from metering.intake.admission import Intake
from metering.intake.tally import Tally
from metering.settings import Settings
from metering.store.live_catalog import LiveCatalog

# Never prepared on the server: after ten runs it would settle on a plan that knows nothing of the batch at hand, which
# made the drain ten times slower. It also lets a transaction pooler stand in between.
ENGINE_OPTIONS: dict[str, Any] = {
    "pool_size": 16,
    "pool_pre_ping": True,
    # What is stored as JSON keeps every digit of its numbers on the way out, too.
    "json_deserializer": exact_json.parse,
    "json_serializer": lambda value: exact_json.write(value).decode(),
    "hide_parameters": True,  # they hold e-mail addresses and digests; logs must not
    "connect_args": {"prepare_threshold": None, "connect_timeout": 3},
}


@dataclass(frozen=True)
class Runtime:
    settings: Settings
    live_catalog: LiveCatalog
    addresses: Addresses
    engine: Engine
    redis: Redis
    queue_redis: Redis
    sessions: sessionmaker[Session]
    clock: Clock

    @property
    def catalog(self) -> Catalog:
        """What is sold and counted, with the meters made at run time as far as this process knows them."""
        return self.live_catalog.current

    @property
    def file_catalog(self) -> Catalog:
        """What the catalog file says."""
        return self.live_catalog.file

    def refresh_meters(self, max_age_seconds: float = 1.0) -> None:
        """Learn of meters that were made at run time. With PostgreSQL away what is known stays."""
        self.live_catalog.refresh(self.sessions, max_age_seconds)

    @cached_property
    def intake(self) -> Intake:
        settings = self.settings
        return Intake(
            self.redis, self.live_catalog.meters, settings.partitions, settings.lease_seconds, tally=self.tally
        )

    @cached_property
    def tally(self) -> Tally:
        return Tally(self.queue_redis)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """One session, committed at its end: for jobs and commands. A view has its own."""
        with self.sessions.begin() as session:
            yield session

    def close(self) -> None:
        self.tally.close()
        self.engine.dispose()
        self.redis.close()
        self.queue_redis.close()


def build_runtime(settings: Settings, *, clock: Clock = utc_now) -> Runtime:
    """Raises ConfigurationError when the catalog is wrong or the embedded servers are wanted and do not run."""
    catalog = load_catalog(settings.catalog)
    addresses = find_addresses(settings)
    engine = create_engine(addresses.database_url, **ENGINE_OPTIONS)
    timeout = settings.redis_timeout_seconds
    redis = connect_redis(addresses.redis_url, timeout)
    return Runtime(
        settings=settings,
        live_catalog=LiveCatalog(catalog),
        addresses=addresses,
        engine=engine,
        redis=redis,
        queue_redis=connect_redis(settings.queue_redis_url or addresses.redis_url, None),
        sessions=sessionmaker(engine, expire_on_commit=False),
        clock=clock,
    )


def find_addresses(settings: Settings) -> Addresses:
    """One's own servers where their addresses are set, else the embedded ones, which must be running."""
    if settings.database_url and settings.redis_url:
        return Addresses(settings.database_url, settings.redis_url)
    running = Embedded(settings.home).addresses()
    if running is None:
        raise ConfigurationError(
            f"The embedded PostgreSQL and Redis of {settings.home} do not run. Start the product with `make run`, "
            "or set METERING_DATABASE_URL and METERING_REDIS_URL to servers of your own."
        )
    return Addresses(settings.database_url or running.database_url, settings.redis_url or running.redis_url)


def connect_redis(url: str, timeout: float | None) -> Redis:
    """A client that fails fast and once: the callers know better than a client when to try again."""
    return Redis.from_url(url, socket_timeout=timeout, socket_connect_timeout=timeout or 5, retry=Retry(NoBackoff(), 0))
