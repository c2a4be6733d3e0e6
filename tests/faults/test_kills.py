"""Whichever process is killed, wherever: each acknowledged call is counted once, and the books agree."""

import socket
from pathlib import Path

import pytest
from sqlalchemy import text

from metering.keeper import Keeper
from metering.store.verify import verify
from tests.factories.standin import StandinProcess
from tests.faults.harness import Clients, Product, read_log, running_product, wait_until

TIMES = 3
COUNTED = "SELECT count(*), sum(units) FROM events WHERE meter_id = (SELECT id FROM meters WHERE key = 'api_call')"
WEB_PLACES = ("call.before_settle", "call.settled")
DRAIN_PLACES = ("drain.before_trim", "drain.read", "drain.before_commit", "drain.committed")
REDIS_PLACES = (
    ("web", "call.before_settle"),
    ("web", "call.settled"),
    ("drain", "drain.before_trim"),
    ("drain", "drain.committed"),
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def kill_web(product: Product) -> None:
    for place in WEB_PLACES:
        product.kill_at("web", place, nth=20)


def kill_drain(product: Product) -> None:
    for place in DRAIN_PLACES:
        product.kill_at("drain", place)


def kill_redis(product: Product) -> None:
    for role, place in REDIS_PLACES:
        product.kill_redis_at(role, place, nth=20 if role == "web" else 3)


@pytest.mark.parametrize("kill", [kill_web, kill_drain, kill_redis])
def test_each_acknowledged_call_is_counted_once(tmp_path: Path, kill, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "acknowledged"
    with running_product(tmp_path / "home", free_port()) as product:
        product.start("web")
        product.start("drain")
        clients = Clients(product, log)
        clients.start()
        try:
            for _ in range(TIMES):
                kill(product)
        finally:
            clients.stop()
        product.stop()
        acknowledged = read_log(log)
        with capsys.disabled():
            print(f"\n  {len(acknowledged)} calls acknowledged, {clients.attempts} attempts, kills: {product.kills}")
        assert_counted_once(product, acknowledged)


def test_whatever_kills_the_worker_stripe_counts_each_unit_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    standin = StandinProcess(tmp_path / "standin")
    log = tmp_path / "acknowledged"
    try:
        with running_product(tmp_path / "home", free_port()) as product:
            product.standin_url = standin.url
            for role in ("web", "drain", "worker"):
                product.start(role)
            clients = Clients(product, log)
            clients.start()
            try:
                for _ in range(TIMES):
                    product.kill_at("worker", "stripe.before_send")
                    product.kill_at("worker", "stripe.accepted")
                    product.kill_redis_at("worker", "stripe.accepted")
                    product.kill_at("drain", "drain.committed")
            finally:
                clients.stop()
            acknowledged = read_log(log)
            with capsys.disabled():
                print(f"\n  {len(acknowledged)} calls acknowledged, kills: {product.kills}")
            wanted = str(sum(acknowledged.values()))
            wait_until(lambda: standin.total("api_call") == wanted, f"Stripe never came to {wanted}")
            product.stop()
            assert_counted_once(product, acknowledged)
            assert standin.total("api_call") == wanted
    finally:
        standin.stop()


def assert_counted_once(product: Product, acknowledged: dict[str, int]) -> None:
    with product.runtime() as runtime:
        keeper = Keeper(runtime)
        keeper.drain_all()
        keeper.feed_inbox()
        keeper.drain_all()
        with runtime.engine.connect() as connection:
            counted = connection.execute(text(COUNTED)).one()
        assert counted == (len(acknowledged), sum(acknowledged.values()))
        standing = runtime.intake.standing("acme", ["api_call", "tokens"], now=runtime.clock())
        assert standing.meters[0].used == sum(acknowledged.values())
        assert [check for check in verify(runtime.engine, runtime.redis) if not check.holds] == []
