"""Real servers for all tests: one embedded PostgreSQL and Redis a test process, emptied before each test."""

import gc
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_sqlalchemy import SQLAlchemy
from jinja2.bccache import Bucket, BytecodeCache
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from redis import Redis
from sqlalchemy import URL, Engine, create_engine, engine_from_config, make_url, text
from sqlalchemy.orm import Session
from werkzeug.routing import Rule

from metering import create_app, runtime
from metering.accounts import passwords
from metering.catalog import Catalog, load_catalog
from metering.embedded import Addresses, Embedded
from metering.extensions import db
from metering.service import Metering
from metering.settings import Settings, load_settings
from metering.store import schema
from tests.browser import gate
from tests.browser.gate import pytest_runtest_setup  # noqa: F401 - pytest finds it here
from tests.factories.standin import KEY, StandinProcess
from tests.factories.stripe_params import judged_requests
from tests.factories.webhooks import SECRET, THIN_SECRET
from tests.factories.world import PARTITIONS, START, World
from tests.faults import counts

# How long an example of Hypothesis takes says how busy the machine is, and nothing of the code.
hypothesis.settings.register_profile("product", deadline=None)
hypothesis.settings.load_profile("product")

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


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Here, and not beside the tests it speaks of: the process that prints it may run none of them."""
    counts.show(terminalreporter)
    gate.tell_what_was_skipped(terminalreporter)


def pytest_configure() -> None:
    """A shell lets what it runs in the background ignore Ctrl-C, and whoever that starts would ignore it as well."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def quick_passwords() -> Iterator[None]:
    """Hashing a password is meant to be slow, and hundreds of tests log somebody in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_hasher", PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),)))
        yield


@pytest.fixture(scope="session", autouse=True)
def quick_rules() -> Iterator[None]:
    """Most of what an app costs is the compiling of its addresses, which are the same for each of the thousands."""
    compile_anew, compiled = Rule.compile, {}

    def kept(rule: Rule) -> None:
        known = (rule.rule, rule.is_leaf, rule.merge_slashes, rule.subdomain, rule.host, repr(rule.defaults))
        if known not in compiled:
            compile_anew(rule)
            built = rule._build, rule._build_unknown
            compiled[known] = (rule.arguments, rule._parts, rule._trace, rule._converters, *built)
            return
        rule.arguments, rule._parts, rule._trace, rule._converters, build, build_unknown = compiled[known]
        rule._build = build.__func__.__get__(rule)
        rule._build_unknown = build_unknown.__func__.__get__(rule)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rule, "compile", kept)
        yield


@pytest.fixture(scope="session", autouse=True)
def engines() -> Iterator[dict[tuple[str, URL], Engine]]:
    """Those of a name and an address are shared: to connect anew for each app, and to compile the same statements anew,
    would be a third of most tests.
    """
    shared: dict[tuple[str, URL], Engine] = {}

    def for_runtime(url: str, **options: Any) -> Engine:
        usual = options == runtime.ENGINE_OPTIONS
        return (usual and shared.get(("runtime", make_url(url)))) or create_engine(url, **options)

    def for_pages(_: SQLAlchemy, __: str | None, options: dict[str, Any], ___: Flask) -> Engine:
        added = ("url", "echo", "echo_pool")  # by Flask-SQLAlchemy
        usual = {name: value for name, value in options.items() if name not in added} == runtime.ENGINE_OPTIONS
        return (usual and shared.get(("pages", make_url(options["url"])))) or engine_from_config(options, prefix="")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "create_engine", for_runtime)
        patch.setattr(SQLAlchemy, "_make_engine", for_pages)
        yield shared


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    with Embedded(tmp_path_factory.mktemp("servers")) as addresses:
        yield addresses


@pytest.fixture(scope="session")
def schema_ready(servers: Addresses, engines: dict[tuple[str, URL], Engine]) -> Iterator[Engine]:
    engine = create_engine(servers.database_url)
    schema.upgrade(engine)
    with engine.begin() as connection:
        schema.create_event_months(connection, START)
        schema.create_event_months(connection, datetime.now(UTC))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("runtime", "pages"):
            engines[name, engine.url] = create_engine(engine.url, **runtime.ENGINE_OPTIONS)
            patch.setattr(engines[name, engine.url], "dispose", lambda: None)  # by an app that ends
        yield engine
    for used in (engine, *engines.values()):
        used.dispose()


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
def app(world: World, servers: Addresses, tmp_path: Path) -> Iterator[Flask]:
    """The product as a web application over the test's world, with its clock."""
    with running_app(world, tmp_path, database_url=servers.database_url, redis_url=servers.redis_url) as app:
        yield app


class Compiled(BytecodeCache):
    """Templates as they were compiled for the first app of this process: each has an environment of its own."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self._kept:
            bucket.bytecode_from_string(self._kept[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._kept[bucket.key] = bucket.bytecode_to_string()


COMPILED = Compiled()


@cache
def settings_with(_environment: frozenset[tuple[str, str]], **settings: Any) -> Settings:
    """The environment's and these. To read them takes as long as most of an app."""
    return load_settings(**settings)


@contextmanager
def running_app(world: World, home: Path, **settings: Any) -> Iterator[Flask]:
    """An application with settings of its own; its connections are closed at the end."""
    settings = {"env": "development", "partitions": PARTITIONS} | settings
    read = settings_with(frozenset(os.environ.items()), **settings)
    app = create_app(read.model_copy(update={"home": home}), clock=lambda: world.now)
    app.jinja_env.bytecode_cache = COMPILED
    yield app
    with app.app_context():
        db.engine.dispose()
    app.extensions["metering"].runtime.close()


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[StandinProcess]:
    """A local Stripe, a process of its own."""
    process = StandinProcess(tmp_path / "standin")
    yield process
    process.kill()


@pytest.fixture
def stripe_app(world: World, servers: Addresses, standin: StandinProcess, tmp_path: Path) -> Iterator[Flask]:
    """An application that speaks with it, both ways."""
    addresses = {"database_url": servers.database_url, "redis_url": servers.redis_url}
    stripe = {"stripe": "standin", "stripe_api_key": KEY, "stripe_api_base": standin.url}
    secrets = {"stripe_webhook_secret": SECRET, "stripe_webhook_thin_secret": THIN_SECRET}
    with running_app(world, tmp_path, **addresses, **stripe, **secrets) as app:
        yield app


@pytest.fixture
def metering(app: Flask) -> Metering:
    service: Metering = app.extensions["metering"]
    return service


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture(autouse=True)
def stripe_parameters(request: pytest.FixtureRequest) -> Iterator[None]:
    """In tests about Stripe every request is judged by the library's own parameter types."""
    name = request.path.stem
    if "stripe" not in name or name == "test_stripe_params":
        yield
        return
    with judged_requests():
        yield


@pytest.fixture
def project_root() -> Path:
    return Path(__file__).resolve().parent.parent


def pytest_collection_finish() -> None:
    """What is loaded by now stays: looking through it again and again frees nothing."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
