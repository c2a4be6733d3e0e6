"""What a customer used a day lately: the small charts of the cards, and the pace that a forecast goes by.

It is read from rollups once a minute at most, for each customer and process: days change slowly, cards are asked for
all the time.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from flask import current_app
from sqlalchemy.orm import Session

from metering.billing.estimate import Estimate
from metering.billing.forecast import Pace, forecast, pace_of
from metering.billing.rhythm import zone
from metering.catalog import Catalog
from metering.clock import MICROSECOND
from metering.dashboard.access import Access, current_metering
from metering.dashboard.figures import Figures, from_database
from metering.store.usage_query import UsageQuery, query_usage
from metering.store.windows import edges

DAYS = 14
KEPT = timedelta(minutes=1)
MOST = 1_000


@dataclass(frozen=True, slots=True)
class History:
    """What was used in each of the last days by meter, in its unit, oldest first; of a level its mean.

    `days` are the starts of the customer's days, the last of which ended at `as_of`.
    """

    days: tuple[datetime, ...]
    used: Mapping[str, tuple[Decimal, ...]]
    as_of: datetime

    def pace(self, meter: str) -> Pace:
        return pace_of(list(zip(self.days, self.used[meter], strict=True)), as_of=self.as_of)


class Histories:
    """Those that were read lately, in this process; the one that was read longest ago makes room."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, str], History] = OrderedDict()

    def recall(self, customer: tuple[int, str], now: datetime) -> History | None:
        with self._lock:
            found = self._kept.get(customer)
        return found if found is not None and timedelta(0) <= now - found.as_of < KEPT else None

    def keep(self, customer: tuple[int, str], history: History) -> None:
        with self._lock:
            self._kept[customer] = history
            self._kept.move_to_end(customer)
            if len(self._kept) > MOST:
                self._kept.popitem(last=False)


def read_history(access: Access) -> History | None:
    """None while PostgreSQL is away and nothing was read lately."""
    return history_of(access.customer_id, access.customer_key, access.timezone)


def history_of(customer_id: int, customer_key: str, timezone: str) -> History | None:
    """The same, of a customer whose page it need not be."""
    runtime = current_metering().runtime
    now, kept = runtime.clock(), _histories()
    whose = (customer_id, timezone)
    if (found := kept.recall(whose, now)) is not None:
        return found
    found = from_database(lambda session: _read(session, runtime.catalog, customer_key, timezone, now))
    if found is not None:
        kept.keep(whose, found)
    return found


def expected_bill(figures: Figures, bill: Estimate | None, history: History | None) -> Estimate | None:
    """The forecast of the bill; None while PostgreSQL is away."""
    if bill is None or history is None:
        return None
    runtime = current_metering().runtime
    levels = {one.meter: one.used for one in figures.summary.meters if runtime.catalog.meters[one.meter].is_level}
    paces = {meter: history.pace(meter) for meter in history.used if meter not in levels}
    return forecast(runtime.catalog, bill, paces, levels, now=runtime.clock())


def _read(session: Session, catalog: Catalog, customer_key: str, timezone: str, now: datetime) -> History:
    where = zone(timezone)
    midnight = now.astimezone(where).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    *days, _ = edges(midnight - timedelta(days=DAYS - 1), now + MICROSECOND, "DAY", where)
    used = {}
    for meter in catalog.meters.values():
        if meter.counts_live:
            query = UsageQuery(meter, from_=days[0], window_size="DAY", timezone=where, customers=[customer_key])
            values = {row.window_start: row.value for row in query_usage(session, query, now=now)}
            used[meter.key] = tuple(values.get(day, Decimal(0)) for day in days)
    return History(tuple(days), used, now)


def _histories() -> Histories:
    kept: Histories = current_app.extensions["metering_dashboard_histories"]
    return kept
