"""What a period will have used and cost by its end, if its customer goes on as in the last days. Pure.

The rule: what was used so far, and in the time that is left as much a day as in the mean of the last days. A level
stays as it is: billed by time it costs on, billed by its maximum it has its maximum. People can check that by hand;
seasons and trends they could not. A hard limit ends usage: nothing is foretold beyond it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from metering.billing.estimate import Estimate, EstimateLine
from metering.billing.pricing import price_line
from metering.catalog import Catalog, Meter
from metering.catalog.aggregations import to_quantity

LOOKED_BACK = timedelta(days=7)
SHORTEST = timedelta(days=1)
"""Less than this says nothing of a day: whoever began an hour ago is taken to do no more today."""

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Pace:
    """`quantity`, in the meter's unit, was used within `over`."""

    quantity: Decimal
    over: timedelta

    def within(self, time: timedelta) -> Decimal:
        """What is used in `time` at this pace."""
        return self.quantity * (time // _MICROSECOND) / (self.over // _MICROSECOND)

    def until(self, quantity: Decimal) -> timedelta | None:
        """How long it takes to use so much more; None: it never comes to that."""
        if self.quantity <= 0:
            return None
        return timedelta(microseconds=int(quantity * (self.over // _MICROSECOND) / self.quantity))


def pace_of(usage: Sequence[tuple[datetime, Decimal]], *, as_of: datetime) -> Pace:
    """The pace of the last seven days, or since the first usage where that is shorter.

    `usage`: what was used in each day, oldest first, by its start; the last day ends at `as_of`.
    """
    days = [(start, quantity) for start, quantity in usage if start >= as_of - LOOKED_BACK]
    began = next((start for start, quantity in days if quantity), as_of)
    return Pace(sum((quantity for _, quantity in days), Decimal(0)), max(as_of - began, SHORTEST))


def forecast(
    catalog: Catalog, bill: Estimate, paces: Mapping[str, Pace], levels: Mapping[str, Decimal], *, now: datetime
) -> Estimate:
    """The bill at the period's end. `levels` are those of now, in their meters' units; both by meter key."""
    left = max(bill.ends_at - now, timedelta(0))
    lines = tuple(_line(catalog, bill, line, paces, levels, left) for line in bill.lines)
    return replace(bill, as_of=bill.ends_at, lines=lines, total=sum((line.amount for line in lines), Decimal(0)))


def _line(
    catalog: Catalog,
    bill: Estimate,
    line: EstimateLine,
    paces: Mapping[str, Pace],
    levels: Mapping[str, Decimal],
    left: timedelta,
) -> EstimateLine:
    if line.usage is None:
        return line
    meter = catalog.meters[line.usage.meter]
    price = catalog.price(bill.plan, meter.key)
    assert price is not None  # or there would be no line
    used = line.usage.quantity * price.size
    more = _more(meter, paces.get(meter.key), levels.get(meter.key, Decimal(0)), left)
    limit, mode = catalog.limit_units(bill.plan, meter)
    if mode == "hard" and limit is not None and not meter.is_level:
        more = min(more, max(to_quantity(limit, meter.scale) - used, Decimal(0)))
    priced = price_line(price, max(used + more, Decimal(0)).scaleb(meter.scale), meter, bill.currency)
    return replace(line, amount=priced.amount, usage=priced)


def _more(meter: Meter, pace: Pace | None, level: Decimal, left: timedelta) -> Decimal:
    """What is yet to come: quantity, or of a level billed by time quantity times seconds."""
    if not meter.is_level:
        return pace.within(left) if pace else Decimal(0)
    return level * Decimal(left // _MICROSECOND).scaleb(-6) if meter.bills_as == "time_weighted" else Decimal(0)
