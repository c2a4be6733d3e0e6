"""The polled parts of the overview at 1,000,000 events against 10,000, as a browser asks for them, rendered in full."""

from pathlib import Path

from flask.testing import FlaskClient

from benchmarks.common import Result, make_customer, median_micros, product
from benchmarks.growth import LARGE, SMALL, fill
from metering import create_app
from metering.accounts.users import create_user
from metering.keeper import Keeper
from metering.models import Membership
from metering.runtime import Runtime
from metering.settings import load_settings

PARTS = ("usage", "alerts", "estimate", "activity")
PASSWORD = "a password of the benchmark"
REPEATS = 60
MOST_MILLIS = 20.0


def run() -> list[Result]:
    costs = {}
    for events in (SMALL, LARGE):
        with product() as runtime:
            costs[events] = measure(runtime, events)
    small, large = costs[SMALL], costs[LARGE]
    growth = [
        Result(
            f"the part {part!r} at {LARGE:,} events / at {SMALL:,}",
            f"{large[part]:,.0f} µs",
            f"{small[part]:,.0f} µs",
            large[part] / small[part],
            2.0,
        )
        for part in PARTS
    ]
    slowest = max(PARTS, key=lambda part: large[part])
    millis = large[slowest] / 1000
    return [
        *growth,
        Result(f"milliseconds of the slowest part ({slowest!r})", f"{millis:.1f} ms", "20 ms", millis, MOST_MILLIS),
    ]


def measure(runtime: Runtime, events: int) -> dict[str, float]:
    """Microseconds of one answer of each part."""
    customer, _ = make_customer(runtime, "acme")
    with runtime.transaction() as session:
        user = create_user(session, email="owner@acme.example", password=PASSWORD)
        session.add(Membership(customer_id=customer.id, user_id=user.id, role="owner"))
    fill(runtime, customer.id, events)
    for partition in range(runtime.settings.partitions):
        Keeper(runtime).rebuild(partition, force=True)
    app = create_app(load_settings(env="development", home=Path(runtime.settings.home)))
    app.config["WTF_CSRF_ENABLED"] = False
    client = app.test_client()
    client.post("/login", data={"email": "owner@acme.example", "password": PASSWORD})
    found = {part: median_micros(lambda part=part: ask(client, part), REPEATS) for part in PARTS}  # type: ignore[misc]
    app.extensions["metering"].runtime.close()
    return found


def ask(client: FlaskClient, part: str) -> None:
    answer = client.get(f"/c/acme/live/{part}", headers={"HX-Request": "true"})
    assert answer.status_code == 200, answer.text
