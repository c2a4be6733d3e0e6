"""Whichever process is killed, wherever in the life of a call: each acknowledged call is counted once in the live
counter, in events and at Stripe, and the books agree.
"""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import text

from metering.keeper import Keeper
from metering.runtime import Runtime
from metering.store.verify import verify
from metering.stripe_sync.gateway import connect
from metering.stripe_sync.verify import findings
from tests.factories.standin import KEY, StandinProcess
from tests.faults import counts
from tests.faults.harness import Clients, Product, read_log, running_product, wait_until

pytestmark = pytest.mark.xdist_group("products")

EVERYBODYS = ("call.admitted", "call.settled", "drain.committed", "drain.before_trim", "stripe.accepted")
"""After admission, after the append, after COMMIT, before the trim, after Stripe accepted: there all are killed."""

ITS_OWN = {
    "web": ("call.before_settle",),
    "drain": ("drain.read", "drain.before_commit"),
    "worker": ("stripe.before_send",),
    "redis": ("call.before_settle",),
}
VISITS = (1, 3, 6)
"""Three kills a place: at the first visit, and further into whatever runs at the same time."""

COUNTED = "SELECT count(*), sum(units) FROM events WHERE meter_id = (SELECT id FROM meters WHERE key = 'api_call')"


@pytest.mark.parametrize("victim", ITS_OWN)
def test_each_acknowledged_call_is_counted_once_whoever_is_killed(victim: str, tmp_path: Path, record_property) -> None:
    standin, log = StandinProcess(tmp_path / "standin"), tmp_path / "acknowledged"
    try:
        with running_product(tmp_path / "home") as product:
            product.standin_url = standin.url
            for role in ("web", "drain", "worker"):
                product.start(role)
            with Clients(product, log) as clients:
                for place in (*EVERYBODYS, *ITS_OWN[victim]):
                    for nth in VISITS:
                        product.kill_at(victim, place, nth)
            acknowledged = read_log(log)
            record_property(counts.KILLS, product.told(len(acknowledged), clients.attempts))
            wanted = sum(acknowledged.values())
            wait_until(
                lambda: told(standin) >= wanted,
                lambda: f"Stripe was told {told(standin)} of {wanted}; ended: {product.ended}",
            )
            product.stop()
            assert_counted_once(product, acknowledged)
            assert told(standin) == wanted
            assert_stripe_agrees(product, standin)
    finally:
        standin.stop()


def told(standin: StandinProcess) -> Decimal:
    """All that Stripe was told, over the hours."""
    totals = standin.inspect("totals")["totals"]
    return sum((Decimal(total["total"]) for total in totals if total["event_name"] == "api_call"), Decimal(0))


def assert_counted_once(product: Product, acknowledged: dict[str, int]) -> None:
    with product.runtime() as runtime:
        keeper = Keeper(runtime)
        keeper.drain_all()
        keeper.feed_inbox()
        keeper.drain_all()
        with runtime.engine.connect() as connection:
            counted = connection.execute(text(COUNTED)).one()
        assert counted == (len(acknowledged), sum(acknowledged.values()))
        wait_until(lambda: held(runtime) == 0, lambda: f"{held(runtime)} tokens are held by nobody")
        standing = runtime.intake.standing("acme", ["api_call"], now=runtime.clock())
        assert standing.meters[0].used == sum(acknowledged.values())
        assert [check for check in verify(runtime.engine, runtime.redis) if not check.holds] == []


def assert_stripe_agrees(product: Product, standin: StandinProcess) -> None:
    gateway = connect(KEY, standin=True, api_base=standin.url)
    with product.runtime() as runtime:
        # By the workers' clocks, which went ahead.
        assert findings(runtime.sessions, gateway, settled_by=runtime.clock() + timedelta(days=1)) == []


def held(runtime: Runtime) -> int:
    return runtime.intake.standing("acme", ["tokens"], now=runtime.clock()).meters[0].held
