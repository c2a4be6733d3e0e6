"""Rows of which nobody knows whether Stripe counted them, and what Stripe's own summary says about that.

Always holds: a row is taken for counted, or for not counted, only where no other reading of the summary is possible
with all that else may stand in the same hour; and the summary is read only when everything that was sent for that hour
has had the time to show. All other rows are held for the operator, with what was seen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from itertools import combinations

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.clock import floor_hour
from metering.models import StripeReport

HOUR = timedelta(hours=1)

MOST_UNCERTAIN = 12
"""So many uncertain rows of one hour are tried in all combinations (4,096); with more nothing can be told."""


class Verdict(StrEnum):
    COUNTED = "counted"
    NOT_COUNTED = "not_counted"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row that may stand in a summary or not."""

    id: int
    value: int


@dataclass(frozen=True, slots=True)
class Window:
    """What was sent for one UTC hour of a customer and meter: for certain, and perhaps. Values are scaled units.

    `last_sent_at`: when the last call about any of it ended, or began where nobody knows its end.
    """

    starts_at: datetime
    certain: int
    uncertain: tuple[Candidate, ...]
    last_sent_at: datetime

    @property
    def ends_at(self) -> datetime:
        return self.starts_at + HOUR


def read_window(session: Session, report: StripeReport) -> Window:
    """Everything that shares Stripe's hour with this row, whichever hours of ours it was used in."""
    starts_at = floor_hour(report.timestamp)
    rows = session.scalars(
        select(StripeReport)
        .where(
            StripeReport.account == report.account,
            StripeReport.meter_id == report.meter_id,
            StripeReport.stripe_customer_id == report.stripe_customer_id,
            StripeReport.timestamp >= starts_at,
            StripeReport.timestamp < starts_at + HOUR,
        )
        .order_by(StripeReport.id)
    ).all()
    return Window(
        starts_at=starts_at,
        certain=sum(row.value for row in rows if row.state in ("accepted", "observed")),
        uncertain=tuple(Candidate(row.id, row.value) for row in rows if _is_uncertain(row)),
        last_sent_at=max((row.last_sent_at for row in rows if row.last_sent_at), default=starts_at),
    )


def judge(window: Window, row_id: int, found: Decimal) -> Verdict:
    """Whether Stripe's summary of the window holds this row, which is one of the uncertain ones.

    Rows of one value cannot be told apart, and need not be: if some of them must be there, the oldest are taken for
    those, so that the total comes out right.
    """
    if len(window.uncertain) > MOST_UNCERTAIN:
        return Verdict.UNCLEAR
    row = next(one for one in window.uncertain if one.id == row_id)
    alike = [one.id for one in window.uncertain if one.value == row.value]
    # Stripe answers floats: beyond 2^53 units an hour both sides are only as exact as those.
    fitting = {
        sum(one.value == row.value for one in some)
        for some in _selections(window.uncertain)
        if float(window.certain + sum(one.value for one in some)) == float(found)
    }
    if len(fitting) != 1:
        return Verdict.UNCLEAR
    return Verdict.COUNTED if alike.index(row_id) < fitting.pop() else Verdict.NOT_COUNTED


def seen(window: Window, row_id: int, found: Decimal) -> str:
    """What an operator needs to decide instead."""
    own = next(one.value for one in window.uncertain if one.id == row_id)
    others = [one for one in window.uncertain if one.id != row_id]
    beside = f", beside {len(others)} more rows that may count or not" if others else ""
    return (
        f"in doubt: Stripe's summary of {window.starts_at:%Y-%m-%d %H:00} UTC says {found:f}; "
        f"it should say {window.certain} without this row, {window.certain + own} with it{beside}"
    )


def _is_uncertain(row: StripeReport) -> bool:
    match row.state:
        case "accepted" | "observed" | "withdrawn":
            return False
        case "written_off":
            return row.attempts > 0  # an operator may have told Stripe by hand
        case _:
            return row.first_sent_at is not None


def _selections(rows: Sequence[Candidate]) -> Iterator[tuple[Candidate, ...]]:
    for size in range(len(rows) + 1):
        yield from combinations(rows, size)
