"""What the API's documents show is true: their curl lines and their Python run, and answer what stands there.

A page is a story: its commands run from the top, against a product of its own. Numbers, times, ids and secrets of an
answer may differ; everything else may not. A block that is not to be run says so above it, and why.
"""

import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from corehttp.exceptions import HttpResponseError
from flask import Flask
from redis import Redis
from sqlalchemy.orm import Session
from werkzeug.serving import WSGIRequestHandler, make_server

from metering import create_app
from metering.accounts.keys import SCOPES, create_key
from metering.accounts.users import add_member, create_user
from metering.api.reference.document import document
from metering.api.reference.views import reference_of
from metering.catalog import Catalog
from metering.demo import make_demo
from metering.embedded import Addresses
from metering.extensions import db
from metering.keeper import Keeper
from metering.service import Metering
from metering.settings import load_settings
from metering.store.status import flow
from tests.factories.world import PARTITIONS, World

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs" / "api.md", *sorted((ROOT / "docs" / "api").glob("*.md"))]
CLIENTS = ROOT / "docs" / "api" / "clients.md"

WRITTEN = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)
"""About when the answers were taken: the times that events state must be neither too old nor yet to come."""

BLOCK = re.compile(r"(?P<note><!-- not executed[^>]*-->\n+)?```console\n(?P<text>.*?)```", re.DOTALL)
PYTHON = re.compile(r"<!-- executed by tests/integration/test_api_docs.py(.*?)-->\n+```python\n(.*?)```", re.DOTALL)
PRINTED = re.compile(r"print\(.*\)  # (.*)$", re.MULTILINE)
ASSIGNMENT = re.compile(r"^([A-Z_]+)=(\S+)$")
READS = re.compile(r"^curl (?!.* (-d|-X|--data-binary) )|^curl .* -G ", re.DOTALL)
PATIENCE_SECONDS = 15

# What may differ from run to run, wherever it stands in a text.
VARIABLE = (
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)"), "TIME"),
    (re.compile(r"mk_[0-9a-f]{2}_[\w-]*"), "KEY"),
    (re.compile(r"[\w.-]{16,}"), "ID"),
    (re.compile(r"-?\d+(\.\d+)?"), "0"),
)


@dataclass(frozen=True)
class Command:
    """A command as it stands in a page, and the answer that is shown below it."""

    text: str
    shown: str


@dataclass(frozen=True)
class Answer:
    status: int | None
    text: str


# -- reading the pages -------------------------------------------------------------------------------------------


def commands_of(page: str) -> list[Command]:
    """The commands of all blocks that call the API, in order."""
    blocks = [found["text"] for found in BLOCK.finditer(page) if "curl -" in found["text"] and not found["note"]]
    return [command for block in blocks for command in _commands(block)]


def _commands(block: str) -> Iterator[Command]:
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        lines = part.split("\n")
        ends = next((number for number, line in enumerate(lines) if number and not line.startswith("    ")), len(lines))
        yield Command("\n".join(lines[:ends]), "\n".join(lines[ends:]).strip("\n"))


def document_of(text: str) -> Any:
    """The JSON of an answer; None where it has none."""
    _, _, body = text.rpartition("\n\n")
    try:
        return json.loads(body)
    except ValueError:
        return None


def places(document: Any, *path: Any) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Every value of a document, as text, with the way to it."""
    members = document.items() if isinstance(document, dict) else enumerate(document)
    for name, value in members:
        if isinstance(value, dict | list):
            yield from places(value, *path, name)
        else:
            yield (*path, name), str(value)


# -- running them ------------------------------------------------------------------------------------------------


@dataclass
class Story:
    """A page that is being run. A variable that is set to something an answer above showed, such as an id, takes what
    the product really answered there."""

    folder: Path
    variables: dict[str, str]

    def __post_init__(self) -> None:
        self.answers: list[tuple[Any, Any]] = []
        self.curl = self.folder / "bin" / "curl"
        self.curl.parent.mkdir()
        self.curl.write_text(f"#!/bin/sh\nexec {shutil.which('curl')} -sS -w '%{{stderr}}%{{http_code}}' \"$@\"\n")
        self.curl.chmod(0o755)

    def run(self, command: Command) -> Answer:
        if assigned := ASSIGNMENT.match(command.text):
            self.variables[assigned[1]] = self._answered(assigned[2])
            return Answer(None, "")
        environment = {**os.environ, **self.variables, "PATH": f"{self.curl.parent}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["/bin/bash", "-c", command.text],
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{command.text}\n{done.stderr}"
        text = done.stdout.replace("\r\n", "\n").strip("\n")
        self.answers.append((document_of(command.shown), document_of(text)))
        return Answer(int(done.stderr[-3:]) if done.stderr[-3:].isdigit() else None, text)

    def _answered(self, value: str) -> str:
        for shown, answered in reversed(self.answers):
            for path, found in places(shown or {}):
                if found == value and answered is not None:
                    for name in path:
                        answered = answered[name]
                    return str(answered)
        return value


def tell(story: Story, command: Command) -> None:
    """Run a command. What it reads may still be on its way through the drain, so reading is tried until it is there."""
    deadline = time.monotonic() + (PATIENCE_SECONDS if READS.search(command.text) else 0)
    while True:
        answer = story.run(command)
        try:
            return check(command, answer)
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def check(command: Command, answer: Answer) -> None:
    """The answer is the one that is shown, apart from what differs each time."""
    shown_head, shown_body = _parted(command)
    head, body = _parted(Command(command.text, answer.text))
    if answer.status is not None:
        assert _is_expected(answer.status, shown_head, shown_body), f"{command.text}\n{answer}"
    for name, value in shown_head.items():
        assert name in head, f"{command.text}\nno header {name}"
        if name != "status":
            assert _alike(head[name]) == _alike(value), f"{command.text}\n{name}"
    shown, found = document_of(shown_body), document_of(body)
    if shown is None:
        assert _alike(body) == _alike(shown_body), command.text
    else:
        assert _alike(found) == _alike(shown), command.text


def _parted(command: Command) -> tuple[dict[str, str], str]:
    """Header fields, with the first line's status as `status`, and body of a shown answer."""
    if not command.shown.startswith("HTTP/"):
        return {}, command.shown
    head, _, body = command.shown.partition("\n\n")
    first, *fields = head.split("\n")
    named = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
    return {"status": first.split()[1], **named}, body


def _is_expected(status: int, shown_head: dict[str, str], shown_body: str) -> bool:
    shown = document_of(shown_body)
    if "status" in shown_head:
        return status == int(shown_head["status"])
    if isinstance(shown, dict) and str(shown.get("type")).startswith("/problems/"):
        return bool(status == shown["status"])
    return 200 <= status < 300


def _alike(value: Any) -> Any:
    """What two answers to the same request have in common."""
    if isinstance(value, dict):
        return {name: _alike(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_alike(one) for one in value]
    if isinstance(value, str):
        for pattern, name in VARIABLE:
            value = pattern.sub(name, value)
        return value
    return 0 if isinstance(value, int | float) and not isinstance(value, bool) else value


# -- the product that they are run against -------------------------------------------------------------------------


class Hiccup:
    """A WSGI app in front of the product. Armed, it lets one request through, but answers 503 in its place: as when a
    connection breaks after the work was done."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.armed = 0

    def __call__(self, environ: Any, start_response: Any) -> Any:
        if not self.armed:
            return self.app(environ, start_response)
        self.armed -= 1
        list(self.app(environ, lambda *_: None))
        start_response("503 Service Unavailable", [("Retry-After", "0")])
        return [b""]


@dataclass
class Product:
    """Served on a real port, with a keeper that drains all the time; acme, globex, Ada and Bob of the pages exist."""

    url: str
    app: Flask
    metering: Metering
    hiccup: Hiccup
    variables: dict[str, str]

    def is_drained(self) -> bool:
        runtime = self.metering.runtime
        with runtime.transaction() as session:
            return flow(session, runtime.redis, now=runtime.clock()).backlog_entries == 0


class Quiet(WSGIRequestHandler):
    """Says nothing of requests: what is read until it is there would fill the page."""

    def log_request(self, *_: object) -> None:
        pass


@contextmanager
def serving(app: Any) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@contextmanager
def keeping(metering: Metering) -> Iterator[None]:
    keeper = Keeper(metering.runtime)
    thread = threading.Thread(target=keeper.run)
    thread.start()
    yield
    keeper.stop()
    thread.join()


@contextmanager
def running(app: Flask, world: World) -> Iterator[Product]:
    metering: Metering = app.extensions["metering"]
    hiccup = Hiccup(app)
    with serving(hiccup) as url, keeping(metering):
        product = Product(url, app, metering, hiccup, {"URL": url, **_keys(world)})
        eventually(product.is_drained)
        yield product
    with app.app_context():
        db.engine.dispose()
    metering.runtime.close()


def _keys(world: World) -> dict[str, str]:
    acme = world.customer("acme", "free")
    world.customer("globex", "pro")
    add_member(
        world.session,
        world.intake,
        world.catalog,
        acme,
        create_user(world.session, email="ada@acme.example", password="a long password", name="Ada"),
        "owner",
        now=world.now,
    )
    create_user(world.session, email="bob@acme.example", password="a long password", name="Bob")
    _, operators = create_key(world.session, None, name="services", scopes=SCOPES, now=world.now, by_operator=True)
    keys = {
        "KEY": world.key(acme, "meter", "usage:read", "admin").secret,
        "REPORTS_KEY": world.key(acme, "usage:read").secret,
        "OPERATORS_KEY": operators.secret,
    }
    world.send()
    return keys


@pytest.fixture
def product(session: Session, redis: Redis, catalog: Catalog, servers: Addresses, tmp_path: Path) -> Iterator[Product]:
    world = World(session=session, redis=redis, catalog=catalog, now=WRITTEN)
    world.initialise()
    started = time.monotonic()
    settings = load_settings(
        env="development",
        home=tmp_path,
        partitions=PARTITIONS,
        database_url=servers.database_url,
        redis_url=servers.redis_url,
    )
    # A clock that goes: what was sent a moment ago must lie before now.
    app = create_app(settings, clock=lambda: WRITTEN + timedelta(seconds=time.monotonic() - started))
    with running(app, world) as product:
        yield product


def eventually(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not what():
        assert time.monotonic() < deadline, "it does not come to be"
        time.sleep(0.02)


# -- the pages ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_curl_is_shown_to_answer_is_what_comes(page: Path, product: Product, tmp_path: Path) -> None:
    folder = tmp_path / "story"
    folder.mkdir()
    story = Story(folder, dict(product.variables))

    for command in commands_of(page.read_text("utf-8")):
        tell(story, command)


# -- the reference ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_lines_of_the_reference_run_beside_make_run(product: Product, session: Session, tmp_path: Path) -> None:
    """Each operation's by themselves, in the order of the page; none of them answers with a problem."""
    runtime = product.metering.runtime
    demo = make_demo(runtime, tmp_path)
    create_user(session, email="grace@example.org", password="a long password", name="Grace")
    session.commit()
    environment = {"PATH": os.environ["PATH"], **product.variables, "KEY": demo.api_key}
    with product.app.app_context():
        reference = reference_of(document().described)

    for operation in (operation for group in reference.groups for operation in group.operations):
        done = subprocess.run(
            ["bash", "-c", f'curl() {{ command curl -s --fail-with-body "$@"; }}\n{operation.curl}'],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            timeout=PATIENCE_SECONDS,
        )
        assert done.returncode == 0, f"{operation.curl}\n{done.stdout!r}"


# -- the clients -------------------------------------------------------------------------------------------------


@pytest.fixture
def environment(product: Product, servers: Addresses, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the examples find in the environment, as in somebody's own program."""
    monkeypatch.setenv("METERING_DATABASE_URL", servers.database_url)
    monkeypatch.setenv("METERING_REDIS_URL", servers.redis_url)
    monkeypatch.setenv("METERING_PARTITIONS", str(PARTITIONS))
    for name, value in product.variables.items():
        monkeypatch.setenv(name, value)


# The SDK itself uses what newer libraries warn of.
@pytest.mark.filterwarnings("default::DeprecationWarning")
@pytest.mark.usefixtures("environment")
def test_the_clients_run_and_print_what_is_shown(product: Product, capsys: pytest.CaptureFixture[str]) -> None:
    examples = PYTHON.findall(CLIENTS.read_text("utf-8"))
    names: dict[str, Any] = {"__name__": "clients"}

    for note, example in examples:
        if "drained" in note:
            eventually(product.is_drained)
        exec(example, names)
        assert capsys.readouterr().out.splitlines() == PRINTED.findall(example), example

    assert len(examples) == 8
    with pytest.raises(HttpResponseError) as refused:  # as the page warns
        names["client"].meters.query_json("messages", filter_group_by={"campaign": ["autumn"]})
    assert refused.value.status_code == 400
    names["client"].close()
    names["metering"].runtime.close()


@pytest.mark.usefixtures("environment")
def test_what_is_sent_again_by_the_session_of_the_page_counts_once(product: Product) -> None:
    start, *examples = (example for _, example in PYTHON.findall(CLIENTS.read_text("utf-8")))
    names: dict[str, Any] = {"__name__": "clients"}
    exec(start, names)
    product.hiccup.armed = 3

    exec(next(example for example in examples if "def send" in example), names)

    assert product.hiccup.armed == 0, "its answers were lost"
    used = {one.meter: int(one.used) for one in product.metering.summary("acme").meters}
    assert used["tokens"] == 127
    with pytest.raises(ValueError, match="is negative"):
        names["send"]([{"id": "x", "source": "s", "type": "tokens", "subject": "acme", "data": {"value": -1}}])
    with pytest.raises(requests.HTTPError, match="409"):
        names["send"]([{"id": "req-1", "source": "gateway", "type": "tokens", "subject": "acme", "data": {"value": 1}}])
