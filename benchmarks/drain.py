"""The drain, from the stream to committed rollups, against the bare statement fed from memory on the same tables."""

import time

from benchmarks.common import Result, empty_usage, make_customer, product
from metering.clock import to_micros
from metering.intake import scripts
from metering.intake.event import make_event
from metering.intake.values import Recording
from metering.keeper import Keeper
from metering.runtime import Runtime
from metering.store.batch import row_arrays
from metering.store.drain import MAX_ROWS, as_entries
from metering.store.sql import statement
from metering.store.stream import Row, read_entries

EVENTS = 100_000
CUSTOMERS = 20
GROUPS = 10


def run() -> list[Result]:
    with product() as runtime:
        customers = [make_customer(runtime, f"customer-{number}")[0].key for number in range(CUSTOMERS)]
        fill(runtime, customers, "warm")
        Keeper(runtime).drain_all()
        empty_usage(runtime)
        fill(runtime, customers, "bench")
        rows = rows_in_streams(runtime)
        started = time.perf_counter()
        Keeper(runtime).drain_all()
        drained = EVENTS / (time.perf_counter() - started)
        empty_usage(runtime)
        stated = EVENTS / bare_seconds(runtime, rows)
    return [
        Result(
            "events a second from stream to committed rollups / the bare statement fed from memory",
            f"{drained:,.0f}/s",
            f"{stated:,.0f}/s",
            drained / stated,
            0.5,
            at_least=True,
        )
    ]


def fill(runtime: Runtime, customers: list[str], name: str) -> None:
    """Events of two meters for each customer, 500 a request, waiting in the streams."""
    now = runtime.clock()
    moment = to_micros(now)
    meters = [runtime.catalog.meters["api_call"], runtime.catalog.meters["tokens"]]
    per_customer = EVENTS // len(customers)
    for customer in customers:
        for start in range(0, per_customer, 500):
            events = [
                make_event(
                    meters[number % 2],
                    customer=customer,
                    quantity=number % 5 + 1,
                    source=name,
                    id=str(number),
                    admitted=moment,
                    time=moment - number * 1_000_000,
                    properties={"path": f"/{number % GROUPS}", "method": "GET", "status": 200, "model": "m"},
                )
                for number in range(start, start + 500)
            ]
            runtime.intake.record(runtime.intake.partition(customer), events, Recording(now, 60, 1 << 40))


def rows_in_streams(runtime: Runtime) -> list[Row]:
    rows: list[Row] = []
    for partition in range(runtime.settings.partitions):
        key = scripts.prefix(partition)
        entries = as_entries(runtime.redis.xrange(key + "stream"))
        rows += read_entries(partition, int(runtime.redis.get(key + "gen")), entries, most=EVENTS)[0]
    return rows[-EVENTS:]


def bare_seconds(runtime: Runtime, rows: list[Row]) -> float:
    """The same statement and the same batches, each committed; nothing to read or decode."""
    batches = [
        {**row_arrays(rows[start : start + MAX_ROWS]), "correct": True} for start in range(0, len(rows), MAX_ROWS)
    ]
    started = time.perf_counter()
    for batch in batches:
        with runtime.transaction() as session:
            assert session.execute(statement("store_batch"), batch).one().fresh == len(rows[:MAX_ROWS])
    return time.perf_counter() - started
