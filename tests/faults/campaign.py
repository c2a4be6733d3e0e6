"""What the campaigns against the stand-in have in common: its faults, what it received, and what we hold of it."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import text

from metering.stripe_sync.decisions import retry, settle
from tests.factories.ledger import Books

LEAST = 10
"""So often each kind of step must have come."""

FAULTS: dict[str, dict[str, Any]] = {
    "answer dropped": {"kind": "drop_answer"},
    "connection reset": {"kind": "reset"},
    "outage": {"kind": "outage"},
    "500 before": {"kind": "error_500"},
    "500 after": {"kind": "error_500", "when": "after"},
    "429 for all": {"kind": "rate_limit"},
    "429 for one": {"kind": "rate_limit", "reason": "resource-specific"},
    "slow": {"kind": "slow", "seconds": 0.01},
}

Totals = dict[tuple[str, str, int], Decimal]
"""By customer, meter and id of our period."""


def struck(books: Books) -> int:
    """How many requests the armed faults still wait for."""
    return sum(fault["times"] or 0 for fault in books.standin.inspect("faults")["faults"])


def counting_events(books: Books) -> list[dict[str, Any]]:
    events = books.standin.inspect("events")["events"]
    return [event for event in events if event["cancelled_at"] is None and event["error"] is None]


def decide(books: Books) -> None:
    """What waits for an operator is decided, by what the stand-in says that it received."""
    world = books.world
    received = {event["identifier"] for event in counting_events(books)}
    for row in books.rows("parked"):
        if row.first_sent_at is None:
            retry(world.session, row.id, now=world.now, actor="campaign")
        else:
            counted = row.identifier in received
            settle(world.session, row.id, counted=counted, note="campaign", now=world.now, actor="campaign")
        world.session.commit()


def at_stripe(books: Books, customers: Iterable[str]) -> Totals:
    """What the stand-in has received and not taken back, by our period of its timestamp."""
    keys = {books.world.find(key).stripe_customer_id: key for key in customers}
    periods = {key: books.world.periods(key) for key in customers}
    totals: Totals = defaultdict(Decimal)
    for event in counting_events(books):
        at = datetime.fromtimestamp(event["timestamp"], UTC)
        key = keys[event["customer"]]
        (period,) = (one for one in periods[key] if one.starts_at <= at < one.ends_at)
        totals[key, event["event_name"], period.id] += Decimal(event["value"])
    return {series: total for series, total in totals.items() if total}


def ours(books: Books) -> Totals:
    rows = books.world.session.execute(
        text("""
            SELECT c.key, m.key AS meter, r.period_id, sum(r.units) AS units
            FROM rollups r JOIN customers c ON c.id = r.customer_id JOIN meters m ON m.id = r.meter_id
            GROUP BY 1, 2, 3
        """)
    )
    return {(row.key, row.meter, row.period_id): row.units for row in rows if row.units}


def told(done: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(done.items()))


def too_few(done: Counter[str]) -> dict[str, int]:
    return {name: number for name, number in done.items() if number < LEAST}
