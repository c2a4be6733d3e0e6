"""How many calls to Stripe a day's usage makes, how long they take at its rate, and what it costs to decide on them.

1,000,000 events of 100 customers over 24 hours, on three meters; beside 10,000 events of the same customers and hours.
"""

import time
from datetime import datetime, timedelta

from sqlalchemy import text

from benchmarks.common import Result, empty_usage, make_customer, product
from metering.clock import floor_hour
from metering.runtime import Runtime
from metering.stripe_sync.gateway import MeterAtStripe
from metering.stripe_sync.ledger import owe
from metering.stripe_sync.meters import link_meters
from metering.stripe_sync.throttle import RATES

SMALL, LARGE = 10_000, 1_000_000
CUSTOMERS, HOURS = 100, 24
METERS = ("api_call", "tokens", "compute_seconds")
ACCOUNT = "live:acct_bench"
REPEATS = 3

EVENTS = """
INSERT INTO events (digest, time, counted_at, customer_id, meter_id, period_id, op, units, source, event_id, grp,
    properties, recorded_at, position, item, late, overshoot)
SELECT md5(n::text)::uuid, at, at, p.customer_id, m.ids[1 + n / 7 % 3], p.id, 'add', 1 + n % 7, 'bench', n::text,
    '{"path": "/' || n % 5 || '"}', '{}', at, n, 0, FALSE, FALSE
FROM generate_series(1, :events) n
CROSS JOIN (SELECT array_agg(id ORDER BY id) AS ids FROM meters WHERE key = ANY(:meters)) m
JOIN (SELECT id, customer_id, row_number() OVER (ORDER BY customer_id) AS number FROM periods
    WHERE starts_at <= :first AND ends_at > :last) p ON p.number = 1 + n % :customers
CROSS JOIN LATERAL (
    SELECT CAST(:first AS timestamptz) + n / CAST(:events AS float8) * (CAST(:last AS timestamptz) - :first) AS at
) t
"""
SUBSCRIPTIONS = """
INSERT INTO stripe_subscriptions (account, stripe_id, customer_id, status, plan, price_ids, starts_at, period_starts_at,
    period_ends_at, anchor, cycle, fetched_at)
SELECT :account, 'sub_' || id, id, 'active', plan, '{}', '2020-01-01', '2020-01-01', '2099-01-01', '2020-01-01',
    '1 month', now()
FROM customers
"""
ROLLUPS = """
INSERT INTO rollups (customer_id, meter_id, period_id, hour, grp, units, events, minimum, maximum)
SELECT customer_id, meter_id, period_id, date_trunc('hour', time, 'UTC'), grp, sum(units), count(*), min(units),
    max(units)
FROM events GROUP BY 1, 2, 3, 4, 5
"""


def run(large: int = LARGE, small: int = SMALL) -> list[Result]:
    seconds, calls = {}, {}
    for events in (small, large):
        with product() as runtime:
            seconds[events], calls[events] = measure(runtime, events)
    most = CUSTOMERS * HOURS * len(METERS)
    rates = {mode: RATES[mode]["events"] for mode in ("live", "test")}
    assert calls[small] == calls[large] > 0, calls
    return [
        Result(
            f"calls to Stripe for {large:,} events / one a customer, meter and hour",
            f"{calls[large]:,} calls: {calls[large] / rates['live']:.0f} s of backlog live, "
            f"{calls[large] / rates['test']:.0f} s in a sandbox",
            f"{most:,} calls",
            calls[large] / most,
            1.0,
        ),
        Result(
            f"deciding what is owed for {large:,} events / for {small:,}",
            f"{seconds[large] * 1000:.0f} ms",
            f"{seconds[small] * 1000:.0f} ms",
            seconds[large] / seconds[small],
            1.5,
        ),
    ]


def measure(runtime: Runtime, events: int) -> tuple[float, int]:
    """Seconds until all that is owed stands in rows, the fastest of a few, and how many rows those are."""
    now = runtime.clock()
    first = floor_hour(now) - timedelta(hours=HOURS)
    for number in range(CUSTOMERS):
        make_customer(runtime, f"c{number}")
    _link(runtime)
    _fill(runtime, events, first, first + timedelta(hours=HOURS) - timedelta(seconds=1))
    with runtime.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    times, rows = [], 0
    for _ in range(REPEATS):
        started = time.perf_counter()
        rows = _owe_all(runtime, now)
        times.append(time.perf_counter() - started)
        _forget(runtime)
    return min(times), rows


def _link(runtime: Runtime) -> None:
    meters = {key: MeterAtStripe(f"mtr_{key}", key, "sum", True, "stripe_customer_id", "value") for key in METERS}
    with runtime.transaction() as session:
        link_meters(session, ACCOUNT, meters)
        session.execute(text("UPDATE customers SET stripe_customer_id = 'cus_' || id"))
        session.execute(text(SUBSCRIPTIONS), {"account": ACCOUNT})


def _fill(runtime: Runtime, events: int, first: datetime, last: datetime) -> None:
    empty_usage(runtime)
    values = {"events": events, "customers": CUSTOMERS, "first": first, "last": last, "meters": list(METERS)}
    with runtime.transaction() as session:
        session.execute(
            text("UPDATE periods SET starts_at = starts_at - interval '2 days' WHERE starts_at <= :now"),
            {"now": runtime.clock()},
        )
        session.execute(text(EVENTS), values)
        session.execute(text(ROLLUPS))


def _owe_all(runtime: Runtime, now: datetime) -> int:
    rows = 0
    while True:
        with runtime.transaction() as session:
            made = owe(session, ACCOUNT, now=now, settle_seconds=0)
        if not made:
            return rows
        rows += made


def _forget(runtime: Runtime) -> None:
    """As if nothing had been reported: every hour is noted again."""
    with runtime.transaction() as session:
        session.execute(text("TRUNCATE stripe_reports, stripe_ledger"))
        session.execute(text("UPDATE rollups SET units = units"))


if __name__ == "__main__":
    for result in run(large=100_000):
        print(result)
