"""Current usage and estimate at 1,000,000 events against 10,000, beside the plain SUM over events."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import text

from benchmarks.common import Result, alternate, empty_usage, make_customer, median_micros, product
from metering.clock import floor_hour, utc_now
from metering.keeper import Keeper
from metering.runtime import Runtime
from metering.service import Metering

SMALL, LARGE = 10_000, 1_000_000
GROUPS = 50
REPEATS = 100
LATE_IN_THE_HOUR = timedelta(minutes=59)
"""The dearest minute: what levels cost in the hour that is not closed is folded from its events."""

EVENTS = """
INSERT INTO events (digest, time, counted_at, customer_id, meter_id, period_id, op, units, source, event_id, grp,
    properties, recorded_at, position, item, late, overshoot)
SELECT md5(n::text)::uuid, :first + (n::float8 / :events) * (CAST(:last AS timestamptz) - :first),
    :first + (n::float8 / :events) * (CAST(:last AS timestamptz) - :first),
    :customer_id, m.ids[1 + n % array_length(m.ids, 1)], :period_id,
    CASE WHEN m.levels[1 + n % array_length(m.ids, 1)] THEN 'change' ELSE 'add' END, 1 + n % 7, 'bench', n::text,
    '{"path": "/' || n % :groups || '"}', '{}', :last, n, 0, FALSE, FALSE
FROM generate_series(1, :events) n,
    (SELECT array_agg(id ORDER BY id) AS ids, array_agg(kind = 'level' ORDER BY id) AS levels FROM meters) m
"""
ROLLUPS = """
INSERT INTO rollups (customer_id, meter_id, period_id, hour, grp, units, events, minimum, maximum)
SELECT customer_id, meter_id, period_id, date_trunc('hour', time, 'UTC'), grp, sum(units), count(*), min(units),
    max(units)
FROM events GROUP BY 1, 2, 3, 4, 5
"""
TOTALS = """
INSERT INTO period_totals (customer_id, meter_id, period_id, units, events)
SELECT customer_id, meter_id, period_id, sum(units), sum(events) FROM rollups GROUP BY 1, 2, 3
"""
LEVELS = """
INSERT INTO levels (customer_id, meter_id, level, opening, accrued_until)
SELECT customer_id, meter_id, sum(units), coalesce(sum(units) FILTER (WHERE time < :until), 0), :until
FROM events WHERE op = 'change' GROUP BY 1, 2
"""
ACCRUALS = """
INSERT INTO accruals (customer_id, meter_id, period_id, hour, units, closing, peak)
SELECT l.customer_id, l.meter_id, :period_id, hour, 1000, 1, 1
FROM levels l,
    generate_series(date_trunc('hour', CAST(:first AS timestamptz)), :until - interval '1 hour', '1 hour') hour
"""
PLAIN_SUM = """
SELECT meter_id, sum(units) FROM events
WHERE customer_id = :customer_id AND period_id = :period_id GROUP BY meter_id
"""


def run() -> list[Result]:
    instant = floor_hour(utc_now()) + LATE_IN_THE_HOUR
    with product(lambda: instant) as small, product(lambda: instant) as large:
        plain = [prepare(small, SMALL), prepare(large, LARGE)]
        costs = alternate([look_at(small), look_at(large)], REPEATS)
    return [
        Result(
            f"usage and estimate at {LARGE:,} events / at {SMALL:,} (plain SUM: {plain[1] / plain[0]:.0f}x)",
            f"{costs[1]:.0f} µs",
            f"{costs[0]:.0f} µs",
            costs[1] / costs[0],
            1.5,
        )
    ]


def prepare(runtime: Runtime, events: int) -> float:
    """Give a customer so many events; microseconds of the plain SUM over them."""
    customer, _ = make_customer(runtime, "acme")
    fill(runtime, customer.id, events)
    for partition in range(runtime.settings.partitions):
        Keeper(runtime).rebuild(partition, force=True)
    with runtime.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
        ids = {"customer_id": customer.id, "period_id": period_of(runtime, customer.id)[0]}
        return median_micros(lambda: connection.execute(text(PLAIN_SUM), ids).all(), 5)


def look_at(runtime: Runtime) -> Callable[[], None]:
    """Summary and estimate of the customer, asked for once before anything is measured."""
    metering = Metering(settings=runtime.settings, runtime=runtime)

    def look() -> None:
        metering.summary("acme")
        metering.estimate("acme")

    look()
    return look


def fill(runtime: Runtime, customer_id: int, events: int) -> None:
    period_id, first = period_of(runtime, customer_id)
    last = runtime.clock()
    values = {
        "customer_id": customer_id,
        "period_id": period_id,
        "first": first,
        "last": last,
        "until": floor_hour(last),
        "events": events,
        "groups": GROUPS,
    }
    empty_usage(runtime)
    with runtime.transaction() as session:
        for sql in (EVENTS, ROLLUPS, TOTALS, LEVELS, ACCRUALS):
            session.execute(text(sql), values)


def period_of(runtime: Runtime, customer_id: int) -> tuple[int, datetime]:
    """The current period, stretched over the last thirty days, so that a young month measures the same."""
    with runtime.transaction() as session:
        session.execute(
            text("""
                UPDATE periods SET starts_at = least(starts_at, CAST(:now AS timestamptz) - interval '30 days')
                WHERE customer_id = :id AND starts_at <= :now
            """),
            {"id": customer_id, "now": runtime.clock()},
        )
        row = session.execute(
            text("SELECT id, starts_at FROM periods WHERE customer_id = :id ORDER BY starts_at LIMIT 1"),
            {"id": customer_id},
        ).one()
    return row.id, row.starts_at


if __name__ == "__main__":
    started = time.perf_counter()
    print(run(), time.perf_counter() - started)
