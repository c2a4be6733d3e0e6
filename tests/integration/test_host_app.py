"""Metering inside an app that has its own SQLAlchemy, Login and CSRF, as the example shows it."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from examples.host_app import app as example
from metering import extensions as ours
from metering import testing
from metering.embedded import Addresses
from metering.testing import Recorded
from tests.factories.world import PARTITIONS, World

metering_off = testing.metering_off  # where metering is installed, pytest finds the fixture by itself

NOWHERE = "postgresql+psycopg://nobody@127.0.0.1:1/nothing"


class Host:
    """The example, with a user who is logged in."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.client = app.test_client()
        self.token = self.client.get("/form").text
        self.log_in(self.client)

    def log_in(self, client: FlaskClient) -> None:
        answer = client.post("/login", data={"email": "ann@host.test", "csrf_token": self.token})
        assert answer.text == "welcome"

    def send(self, body: str = "greetings from afar"):  # type: ignore[no-untyped-def]
        return self.client.post("/postcards", data={"body": body, "csrf_token": self.token})


@pytest.fixture
def environment(servers: Addresses, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("HOST_DATABASE_URL", servers.database_url)
    monkeypatch.setenv("METERING_REDIS_URL", servers.redis_url)
    monkeypatch.setenv("METERING_DATABASE_URL", NOWHERE)  # the hot path needs nothing but Redis
    monkeypatch.setenv("METERING_PARTITIONS", str(PARTITIONS))
    return monkeypatch


@pytest.fixture
def app(environment: pytest.MonkeyPatch, world: World) -> Iterator[Flask]:
    world.now = datetime.now(UTC)
    app = example.create_app()
    example.create_tables(app)
    with app.app_context():
        example.db.session.add(example.User(email="ann@host.test", account_key="acme"))
        example.db.session.commit()
    yield app
    with app.app_context():
        with example.db.engine.begin() as connection:
            connection.execute(text("DROP SCHEMA postcards CASCADE"))
        example.db.engine.dispose()
    if "runtime" in vars(app.extensions["metering"]):
        app.extensions["metering"].runtime.close()


@pytest.fixture
def host(app: Flask) -> Host:
    return Host(app)


def test_metered_calls_need_nothing_but_redis(host: Host, world: World) -> None:
    world.customer()

    answer = host.send("hello there")
    read = host.client.get("/postcards", buffered=True)

    assert (answer.status_code, read.text) == (201, "hello there ")
    assert answer.headers["X-RateLimit-Limit"] == "100"
    assert (world.used(), world.used("messages"), world.used("tokens")) == (2, 1, 2)
    assert (world.held(), world.held("tokens")) == (0, 0)
    world.drain()
    assert (world.total(), world.total("messages")) == (2, 1)


def test_a_limit_holds_before_the_hosts_work_is_done(host: Host, world: World) -> None:
    world.customer()
    world.record(world.event(meter="messages", quantity=100))

    answer = host.send()

    assert (answer.status_code, answer.json["meter"]) == (429, "messages")
    with host.app.app_context():
        assert example.db.session.scalars(example.db.select(example.Postcard)).all() == []


def test_the_hosts_own_extensions_are_untouched(host: Host) -> None:
    assert host.app.extensions["sqlalchemy"] is example.db
    assert host.app.extensions["csrf"] is example.csrf
    assert host.app.login_manager is example.login  # type: ignore[attr-defined]
    for name in ("migrate", "limiter"):
        assert name not in host.app.extensions
    assert ours.db is not example.db
    assert {rule.rule for rule in host.app.url_map.iter_rules()} == {
        "/static/<path:filename>",
        "/form",
        "/login",
        "/postcards",
    }


def test_the_hosts_csrf_protection_goes_before_metering(host: Host, world: World) -> None:
    world.customer()

    answer = host.client.post("/postcards", data={"body": "forged"})

    assert answer.status_code == 400
    assert "CSRF" in answer.text
    assert (world.used(), world.held()) == (0, 0)


def test_a_stranger_meets_the_hosts_own_login(host: Host, world: World) -> None:
    world.customer()

    answer = host.app.test_client().get("/postcards")

    assert answer.status_code == 401
    assert "application/problem+json" not in answer.content_type
    assert world.used() == 0


def test_an_account_that_metering_does_not_know_is_told_so(host: Host) -> None:
    answer = host.send()

    assert (answer.status_code, answer.json["type"]) == (404, "/problems/unknown-customer")


def test_switched_off_it_is_as_if_it_were_not_there(environment: pytest.MonkeyPatch, app: Flask, world: World) -> None:
    world.customer()
    environment.setenv("METERING_ENABLED", "false")
    environment.setenv("METERING_REDIS_URL", "redis://127.0.0.1:1/0")
    host = Host(app)

    answer = host.send("hello there")

    assert answer.status_code == 201
    assert not [name for name, _ in answer.headers if "ratelimit" in name.lower()]
    assert host.client.get("/postcards", buffered=True).text == "hello there "
    assert world.used() == 0
    assert "runtime" not in vars(app.extensions["metering"])


def test_a_hosts_own_tests_run_without_servers(
    environment: pytest.MonkeyPatch, app: Flask, metering_off: Recorded
) -> None:
    environment.setenv("METERING_REDIS_URL", "redis://127.0.0.1:1/0")
    host = Host(app)

    host.send("hello there")
    host.client.get("/postcards", buffered=True)

    assert [(one.customer, one.meter, one.quantity) for one in metering_off.counted] == [
        ("acme", "api_call", 1),
        ("acme", "messages", 1),
        ("acme", "api_call", 1),
        ("acme", "tokens", 2),
    ]


# -- as an installed package -------------------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path: Path, project_root: Path) -> Path:
    """A folder that tells Python what an installed wheel would: the entry points of pyproject.toml."""
    project = tomllib.loads((project_root / "pyproject.toml").read_text())["project"]
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in points.items())]
    info = tmp_path / "site" / "metering-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: metering\nVersion: 0\n")
    (info / "entry_points.txt").write_text("\n".join(lines))
    return info.parent


def run(installed: Path, root: Path, *command: str, **env: str) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "PYTHONPATH": f"{installed}{os.pathsep}{root}", **env}
    return subprocess.run(
        [sys.executable, "-m", *command], env=env, cwd=root, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_commands_are_there_by_themselves(
    installed: Path, project_root: Path, app: Flask, world: World, servers: Addresses
) -> None:
    world.customer()
    world.record(world.event(quantity=3))

    command = ("flask", "--app", "examples.host_app.app", "metering", "usage", "acme", "--json")
    done = run(installed, project_root, *command, METERING_DATABASE_URL=servers.database_url)

    assert done.returncode == 0, done.stderr
    meters = {one["meter"]: one for one in json.loads(done.stdout)["meters"]}
    assert meters["api_call"]["used"] == 3


HOST_TEST = """
from flask import Flask
from metering import Metering, metered, usage

app = Flask("host")
Metering(app)


@app.post("/complete")
@metered("api_call", quantity=2, reserve={"tokens": 100})
def complete():
    usage.set("tokens", 12)
    return {"customer": usage.customer}


@app.get("/fails")
@metered("api_call")
def fails():
    return "no", 500


def test_completion(metering_off):
    assert app.test_client().post("/complete").json == {"customer": None}
    assert app.test_client().get("/fails").status_code == 500
    app.extensions["metering"].record("acme", "tokens", 5)
    assert metering_off.quantities("api_call") == [2]
    assert metering_off.total("tokens") == 17
    assert metering_off.counted[0].properties["path"] == "/complete"


def test_each_test_begins_anew(metering_off):
    assert metering_off.counted == []


def test_without_the_fixture_metering_is_in_earnest(monkeypatch):
    assert app.test_client().post("/complete").status_code == 401
"""


def test_the_fixture_is_there_by_itself(installed: Path, project_root: Path, tmp_path: Path) -> None:
    (tmp_path / "test_host.py").write_text(HOST_TEST)

    options = ("-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "-W", "error")
    away = {"METERING_DATABASE_URL": NOWHERE, "METERING_REDIS_URL": "redis://127.0.0.1:1/0"}
    done = run(installed, project_root, "pytest", *options, str(tmp_path / "test_host.py"), **away)

    assert re.search(r"\b3 passed", done.stdout), done.stdout + done.stderr
