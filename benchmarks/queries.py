"""Usage queries over thirty days, and pages of the event list, at 1,000,000 events against 10,000.

Beside them the plain SUM and GROUP BY over events, whose cost grows with their number.
"""

import time
from collections.abc import Callable
from datetime import timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlalchemy.orm import Session

from benchmarks.common import Result, empty_usage, make_customer, median_micros, product
from metering.clock import floor_hour
from metering.runtime import Runtime
from metering.store.event_list import EventFilter, list_events
from metering.store.usage_query import UsageQuery, query_usage

SMALL, LARGE = 10_000, 1_000_000
DAYS, MODELS = 30, 2
REPEATS = 30
PAGES = 20

EVENTS = """
INSERT INTO events (digest, time, counted_at, customer_id, meter_id, period_id, op, units, source, event_id, grp,
    properties, recorded_at, position, item, late, overshoot)
SELECT md5(n::text)::uuid, at, at, :customer_id, m.id, p.id, 'add', 1 + n % 7, 'bench', n::text,
    '{"model":"' || n % :models || '"}', jsonb_build_object('model', n % :models), at, n, 0, FALSE, FALSE
FROM generate_series(0, :events - 1) n
JOIN meters m ON m.key = 'tokens'
JOIN LATERAL (SELECT id FROM periods WHERE customer_id = :customer_id ORDER BY starts_at LIMIT 1) p ON TRUE
CROSS JOIN LATERAL (
    SELECT :first + n * (:last - CAST(:first AS timestamptz)) / :events AS at
) AS instant
"""
ROLLUPS = """
INSERT INTO rollups (customer_id, meter_id, period_id, hour, grp, units, events, minimum, maximum)
SELECT customer_id, meter_id, period_id, date_trunc('hour', time, 'UTC'), grp, sum(units), count(*), min(units),
    max(units)
FROM events GROUP BY 1, 2, 3, 4, 5
"""
PLAIN_SUM = """
SELECT date_trunc(:size, time, 'Europe/Berlin') AS starts, sum(units) FROM events
WHERE customer_id = :customer_id AND meter_id = (SELECT id FROM meters WHERE key = 'tokens')
    AND time >= :first AND time < :last AND voided_at IS NULL
GROUP BY starts ORDER BY starts
"""


def run() -> list[Result]:
    with product() as runtime:
        costs = {events: measure(runtime, events) for events in (SMALL, LARGE)}
    names = costs[SMALL].keys()
    return [
        Result(
            f"{name} at {LARGE:,} events / at {SMALL:,}{plain(costs, name)}",
            f"{costs[LARGE][name][0]:,.0f} µs",
            f"{costs[SMALL][name][0]:,.0f} µs",
            costs[LARGE][name][0] / costs[SMALL][name][0],
            1.5,
        )
        for name in names
    ]


def plain(costs: dict[int, dict[str, tuple[float, float]]], name: str) -> str:
    large, small = costs[LARGE][name][1], costs[SMALL][name][1]
    return f" (plain SUM and GROUP BY: {large:,.0f} µs, {large / small:.0f}x)" if small else ""


def measure(runtime: Runtime, events: int) -> dict[str, tuple[float, float]]:
    """Microseconds of each of ours, and of the plain statement that answers the same (0 where there is none)."""
    key = f"acme-{events}"
    customer, _ = make_customer(runtime, key)
    last = floor_hour(runtime.clock())
    span = {"customer_id": customer.id, "first": last - timedelta(days=DAYS), "last": last}
    empty_usage(runtime)
    with runtime.transaction() as session:
        session.execute(text(EVENTS), {**span, "events": events, "models": MODELS})
        session.execute(text(ROLLUPS))
    with runtime.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    found = {}
    for size in ("hour", "day"):
        query = UsageQuery(
            runtime.catalog.meters["tokens"],
            from_=span["first"],
            to=last,
            window_size=size.upper(),  # type: ignore[arg-type]
            timezone=ZoneInfo("Europe/Berlin"),
            customers=[key],
        )
        ours = timed(runtime, lambda session, query=query: query_usage(session, query, now=last))
        theirs = timed(
            runtime, lambda session, size=size: session.execute(text(PLAIN_SUM), {**span, "size": size}).all()
        )
        found[f"usage of {DAYS} days by {size}"] = (ours, theirs)
    pages = timed(runtime, lambda session: walk(session, key)) / PAGES
    found[f"each of the first {PAGES} pages of the event list"] = (pages, 0.0)
    return found


def walk(session: Session, customer: str) -> None:
    cursor = None
    for _ in range(PAGES):
        cursor = list_events(session, EventFilter(customers=[customer]), cursor=cursor).next_cursor


def timed(runtime: Runtime, work: Callable[[Session], object]) -> float:
    def once() -> None:
        with runtime.transaction() as session:
            work(session)

    once()
    return median_micros(once, REPEATS)


if __name__ == "__main__":
    started = time.perf_counter()
    print(run(), time.perf_counter() - started)
