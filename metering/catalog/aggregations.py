"""How a meter aggregates: one small class for each aggregation, which answers every question about itself. Pure.

Always holds: whoever needs to know how a meter aggregates asks here; no other module compares an aggregation's name.
Values are exact. Only means are rounded: half to even, to six places more than the meter has.
"""

from dataclasses import dataclass
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from typing import ClassVar, Literal

AggregationName = Literal["sum", "count", "max", "min", "avg", "latest", "unique_count", "time_weighted"]

MEAN_PLACES = 6
"""How many decimal places a mean has beyond those of its meter."""

EXACT = Context(prec=60, traps=[InvalidOperation, Inexact, Overflow])
"""Refuses what it would have to round."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What some events of a meter come to, in scaled units. `distinct` is the number of different values."""

    units: int
    events: int
    minimum: int
    maximum: int
    latest: int | None
    distinct: int


@dataclass(frozen=True, slots=True)
class LevelTotals:
    """How a level went over `micros` microseconds, in scaled units; `weighed` are unit-microseconds."""

    closing: int
    peak: int
    weighed: int
    micros: int


class Aggregation:
    """The answers that most aggregations give."""

    summed: ClassVar[bool] = False
    """Its hours add up to what a period holds: it can be counted live, limited, billed and reported."""

    counts_events: ClassVar[bool] = False
    """Each event counts as one, whatever quantity it states."""

    reads_values: ClassVar[bool] = False
    """It looks at the value itself, a text or a number, which stands in the event alone."""

    reads_latest: ClassVar[bool] = False
    """It looks at which value came last."""

    of_usage: ClassVar[bool] = True
    of_levels: ClassVar[bool] = False

    closes_hours: ClassVar[bool] = False
    """Of a level: what it was at the end of an hour is all it needs of that hour."""

    @property
    def needs_value(self) -> bool:
        """Whether an event without the value that the meter names tells it nothing."""
        return self.reads_values or not self.counts_events

    @property
    def from_rollups(self) -> bool:
        """Whether the hourly totals hold all that it needs."""
        return not self.reads_values

    def value(self, totals: Totals, scale: int) -> Decimal:
        """The value of some usage, one event at least, in the meter's unit."""
        raise NotImplementedError

    def level_value(self, totals: LevelTotals, scale: int) -> Decimal:
        """The value of a level over some time, in the meter's unit."""
        raise NotImplementedError


class Sum(Aggregation):
    summed = True

    def value(self, totals: Totals, scale: int) -> Decimal:
        return to_quantity(totals.units, scale)


class Count(Sum):
    counts_events = True


class Maximum(Aggregation):
    of_levels = True

    def value(self, totals: Totals, scale: int) -> Decimal:
        return to_quantity(totals.maximum, scale)

    def level_value(self, totals: LevelTotals, scale: int) -> Decimal:
        return to_quantity(totals.peak, scale)


class Minimum(Aggregation):
    def value(self, totals: Totals, scale: int) -> Decimal:
        return to_quantity(totals.minimum, scale)


class Average(Aggregation):
    def value(self, totals: Totals, scale: int) -> Decimal:
        return _mean(totals.units, totals.events, scale)


class Latest(Aggregation):
    reads_latest = True
    of_levels = True
    closes_hours = True

    def value(self, totals: Totals, scale: int) -> Decimal:
        assert totals.latest is not None
        return to_quantity(totals.latest, scale)

    def level_value(self, totals: LevelTotals, scale: int) -> Decimal:
        return to_quantity(totals.closing, scale)


class UniqueCount(Aggregation):
    counts_events = True
    reads_values = True

    def value(self, totals: Totals, scale: int) -> Decimal:
        return Decimal(totals.distinct)


class TimeWeighted(Aggregation):
    of_usage = False
    of_levels = True

    def level_value(self, totals: LevelTotals, scale: int) -> Decimal:
        return _mean(totals.weighed, totals.micros, scale)


AGGREGATIONS: dict[AggregationName, Aggregation] = {
    "sum": Sum(),
    "count": Count(),
    "max": Maximum(),
    "min": Minimum(),
    "avg": Average(),
    "latest": Latest(),
    "unique_count": UniqueCount(),
    "time_weighted": TimeWeighted(),
}
SUMMED = tuple(name for name, aggregation in AGGREGATIONS.items() if aggregation.summed)
"""Aggregations of usage with a total by period that limits, bills and live counters can rely on."""


def to_quantity(units: int | Decimal, scale: int) -> Decimal:
    """Scaled units as a decimal in the meter's unit, with all their digits."""
    return EXACT.scaleb(Decimal(units), -scale)


def _mean(total: int, parts: int, scale: int) -> Decimal:
    whole, rest = divmod(total * 10**MEAN_PLACES, parts)
    whole += rest * 2 + whole % 2 > parts
    return to_quantity(whole, scale + MEAN_PLACES)
