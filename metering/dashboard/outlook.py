"""What the cards say of the days past and to come: a small chart, and where usage is heading. Pure."""

from dataclasses import dataclass
from datetime import datetime, tzinfo
from decimal import Decimal

from metering import humanize, quantities
from metering.catalog import Meter
from metering.clock import MICROSECOND
from metering.dashboard.history import History
from metering.dashboard.view_models import Spark
from metering.intake.values import Span
from metering.service import MeterUsage


@dataclass(frozen=True, slots=True)
class Outlook:
    """`history` is None where nobody can tell."""

    period: Span
    history: History | None
    where: tzinfo
    now: datetime

    def forecast(self, meter: Meter, usage: MeterUsage) -> tuple[str, bool] | None:
        """Where usage stands at the period's end, or when it reaches its limit before, and whether it does. None for
        levels, which stay as they are, for a limit that is reached, and where nothing is used.
        """
        if self.history is None or meter.is_level:
            return None
        pace, left = self.history.pace(meter.key), self.period.ends_at - self.now
        room = None if usage.limit is None else usage.limit - usage.used
        if not pace.quantity or (room is not None and room <= 0):
            return None
        end = usage.used + pace.within(left)
        if room is not None and end >= usage.used + room and (wait := pace.until(room)) is not None:
            return f"At the limit {humanize.relative(self.now + wait, self.now)}", True
        about = quantities.short(meter, end.quantize(Decimal(1)))
        return f"About {about} by {humanize.short_day(self.period.ends_at - MICROSECOND, self.where)}", False

    def spark(self, meter: Meter) -> Spark | None:
        if self.history is None:
            return None
        used = self.history.used[meter.key]
        most = max(used)
        if most <= 0:
            return None
        day = humanize.short_day(self.history.days[used.index(most)], self.where)
        return Spark(
            bars=tuple(int(max(one, Decimal(0)) * 100 / most) for one in used),
            text=f"The last {len(used)} days: most on {day}, {quantities.exact(meter, most)}",
        )
