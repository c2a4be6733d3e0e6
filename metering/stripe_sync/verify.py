"""Proof that Stripe counted what it accepted: the one check of `flask metering verify` that asks Stripe.

For each customer and meter, day by day, over the whole time that its report rows cover. Rows of which nobody can know
whether Stripe counts them yet may be there or not; nothing else may differ by a single unit. A customer that Stripe
does not know is a finding of its own: nothing can be compared until its id is put right.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy.orm import Session

from metering.errors import ConfigurationError
from metering.runtime import Runtime
from metering.store.verify import MOST, Check, Difference, Unseen
from metering.stripe_sync.claims import SessionFactory
from metering.stripe_sync.gateway import Fate, NoSuchCustomer, StripeFailed, StripeGateway
from metering.stripe_sync.reporting import gateway_for, summary_delay_seconds
from metering.stripe_sync.sql import statement

NAME = "stripe"
CLAIM = "Stripe counted what it accepted"
DAY = timedelta(days=1)
LOOKS = 3
"""A row that is sent between our look at the table and that at Stripe is no difference: it is gone at the next look."""

MOST_COMBINED = 12
"""So many doubtful rows a day are tried in all combinations (4,096); more are only added up at both ends."""


@dataclass(frozen=True, slots=True)
class Series:
    """One of Stripe's meters, for one of its customers, and what both are called here."""

    customer: str
    meter: str
    stripe_customer: str
    stripe_meter: str
    is_linked: bool
    """Whether this is the id that the customer has now."""


@dataclass(frozen=True, slots=True)
class Day:
    """What Stripe must have counted on a UTC day, in scaled units, and the values that it may have counted besides."""

    counted: int = 0
    doubtful: tuple[int, ...] = ()

    def agrees(self, found: Decimal) -> bool:
        """Stripe answers floats: beyond 2^53 units a day both sides are only as exact as those."""
        if len(self.doubtful) > MOST_COMBINED:
            least = sum(value for value in self.doubtful if value < 0)
            most = sum(value for value in self.doubtful if value > 0)
            return float(self.counted + least) <= float(found) <= float(self.counted + most)
        return float(found) in {float(self.counted + some) for some in _sums(self.doubtful)}


Days = Mapping[datetime, Day]
Finding = Difference | Unseen


def verify_stripe(runtime: Runtime) -> Check | None:
    """The check, up to fifty differences; None with METERING_STRIPE=off. Stripe away: it says so, and does not hold."""
    settings = runtime.settings
    if settings.stripe == "off":
        return None
    settled_by = runtime.clock() - timedelta(seconds=summary_delay_seconds(settings))
    try:
        found = findings(runtime.sessions, gateway_for(settings), settled_by=settled_by)
    except (StripeFailed, ConfigurationError) as error:
        return Check(NAME, CLAIM, (), fault=error.message)
    differing = [one for one in found if isinstance(one, Difference)]
    unseen = dict.fromkeys(one for one in found if isinstance(one, Unseen))  # one a customer, not one a meter
    return Check(NAME, CLAIM, tuple(differing[:MOST]), unseen=tuple(unseen)[:MOST])


def findings(sessions: SessionFactory, gateway: StripeGateway, *, settled_by: datetime) -> list[Finding]:
    """Where Stripe's summaries differ from the rows that were accepted by then, and whom it does not know.

    Raises StripeFailed.
    """
    found: dict[Series, list[Finding]] | None = None
    for _ in range(LOOKS):
        with sessions() as session:
            books = _read(session, gateway.account, settled_by)
        suspects = books if found is None else books.keys() & found.keys()
        found = {series: differing for series in suspects if (differing := _compare(gateway, series, books[series]))}
        if not found:
            return []
    return [one for _, some in sorted((found or {}).items(), key=lambda item: str(item[0])) for one in some]


def _read(session: Session, account: str, settled_by: datetime) -> dict[Series, Days]:
    books: dict[Series, dict[datetime, Day]] = defaultdict(dict)
    for row in session.execute(statement("reported_days"), {"account": account, "settled_by": settled_by}):
        series = Series(row.customer, row.meter, row.stripe_customer, row.stripe_meter, row.is_linked)
        books[series][row.day] = Day(int(row.counted), tuple(row.doubtful))
    return dict(books)


def _compare(gateway: StripeGateway, series: Series, days: Days) -> list[Finding]:
    try:
        found = gateway.daily_summaries(series.stripe_meter, series.stripe_customer, min(days), max(days) + DAY)
    except NoSuchCustomer:
        # Under an id that was put right, nothing counted is as it should be.
        return list(_unknown(series)) if series.is_linked or any(_differing(series, days, {})) else []
    except StripeFailed as error:
        if error.outcome.fate is not Fate.REFUSED:
            raise
        # Stripe answers, but not about this one: that must not keep the others from being looked at.
        total = Decimal(sum(day.counted for day in days.values()))
        return [Difference(series.customer, series.meter, error.message, total, Decimal(0))]
    return list(_differing(series, days, found))


def _unknown(series: Series) -> Iterator[Unseen]:
    yield Unseen(
        series.customer,
        f"Stripe knows no such customer: {series.stripe_customer}. Say which one it is, and what was reported is owed "
        f"again: flask metering customers stripe {series.customer} cus_…",
    )


def _differing(series: Series, days: Days, found: Mapping[datetime, Decimal]) -> Iterator[Difference]:
    for day in sorted(days.keys() | found.keys()):
        ours, theirs = days.get(day, Day()), found.get(day, Decimal(0))
        if not ours.agrees(theirs):
            where = f"{day:%Y-%m-%d} UTC, {series.stripe_customer}"
            yield Difference(series.customer, series.meter, where, Decimal(ours.counted), _plain(theirs))


def _plain(found: Decimal) -> Decimal:
    """Without the fraction that a float brings along."""
    whole = found.to_integral_value()
    return whole if whole == found else found


def _sums(values: Sequence[int]) -> set[int]:
    """What any of these values may add up to."""
    sums = {0}
    for value in values:
        sums |= {some + value for some in sums}
    return sums
