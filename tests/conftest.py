"""Real servers for all tests: one embedded PostgreSQL and Redis a test process, emptied before each test."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis import Redis
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session

from metering.catalog import Catalog, load_catalog
from metering.embedded import Addresses, Embedded
from metering.store import schema
from tests.factories.world import START, World

# Deleting a handful of rows is far cheaper than truncating some forty tables; foreign keys are not looked at meanwhile.
EMPTY = """
DO $$
DECLARE name text;
BEGIN
    SET LOCAL session_replication_role = replica;
    FOR name IN
        SELECT relname FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
            AND relname <> 'alembic_version'
    LOOP
        EXECUTE format('DELETE FROM %I', name);
    END LOOP;
END $$
"""


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    with Embedded(tmp_path_factory.mktemp("servers")) as addresses:
        yield addresses


@pytest.fixture(scope="session")
def schema_ready(servers: Addresses) -> Iterator[Engine]:
    engine = create_engine(servers.database_url)
    schema.upgrade(engine)
    with engine.begin() as connection:
        schema.create_event_months(connection, START)
        schema.create_event_months(connection, datetime.now(UTC))
    yield engine
    engine.dispose()


@pytest.fixture
def engine(schema_ready: Engine) -> Engine:
    """The database, empty."""
    with schema_ready.begin() as connection:
        connection.execute(text(EMPTY))
    return schema_ready


@pytest.fixture
def redis(servers: Addresses) -> Iterator[Redis]:
    """Redis, empty."""
    client = Redis.from_url(servers.redis_url)
    client.flushdb()
    yield client
    client.close()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with Session(engine, expire_on_commit=False) as session:
        yield session


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    return load_catalog()


@pytest.fixture
def world(session: Session, redis: Redis, catalog: Catalog) -> World:
    """An initialised product without customers, at a fixed moment."""
    world = World(session=session, redis=redis, catalog=catalog)
    world.initialise()
    return world


@pytest.fixture
def project_root() -> Path:
    return Path(__file__).resolve().parent.parent
