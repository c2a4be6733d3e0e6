"""What the README shows is true: its examples run, and its table of settings is the code's own."""

import re
from pathlib import Path

import pytest

from metering.accounts.customers import create_customer
from metering.embedded import Addresses
from metering.initialise import initialise
from metering.keeper import Keeper
from metering.runtime import Runtime, build_runtime
from metering.settings import Settings, load_settings, variable
from tests.factories.world import World

README = Path(__file__).resolve().parents[2] / "README.md"
EXAMPLE = re.compile(r"<!-- executed by [^>]*-->\n```python\n(.*?)```", re.DOTALL)


@pytest.fixture
def prepared(world: World, servers: Addresses, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """A product with the customer that the examples bill, found by the environment as in somebody's own app."""
    monkeypatch.setenv("METERING_DATABASE_URL", servers.database_url)
    monkeypatch.setenv("METERING_REDIS_URL", servers.redis_url)
    monkeypatch.setenv("METERING_PARTITIONS", "4")
    runtime = build_runtime(load_settings())
    initialise(runtime, report=lambda _: None)
    with runtime.transaction() as session:
        create_customer(
            session, runtime.catalog, key="acme", name="Acme", plan="free", partitions=4, now=runtime.clock()
        )
    Keeper(runtime).send_state()
    return runtime


def test_the_examples_run(prepared: Runtime) -> None:
    names: dict[str, object] = {"__name__": "readme"}
    decorator, service = EXAMPLE.findall(README.read_text())
    exec(decorator, names)
    client = names["app"].test_client()  # type: ignore[attr-defined]

    answer = client.post("/complete", json={"prompt": "one two", "max_tokens": 10}, headers={"X-Account": "acme"})

    assert (answer.status_code, answer.json) == (200, {"text": "ONE TWO"})
    assert '"tokens";r=9998' in answer.headers["RateLimit"]
    exec(service, names)
    used = {one.meter: int(one.used) for one in names["metering"].summary("acme").meters}  # type: ignore[attr-defined]
    assert (used["api_call"], used["tokens"], used["messages"]) == (1, 2, 3)
    names["metering"].runtime.close()  # type: ignore[attr-defined]
    prepared.close()


def test_the_table_of_settings_is_complete() -> None:
    shown = set(re.findall(r"^\| `([A-Z_]+)` \|", README.read_text(), re.MULTILINE))
    known = {variable(name) for name in Settings.model_fields}

    assert shown == known
