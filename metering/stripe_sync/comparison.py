"""One customer's usage of a meter in a period: ours beside Stripe's, and why they differ where they do."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import combinations

MOST_COMBINED = 12
"""So many uncertain rows are tried in all combinations (4,096); more are only added up at both ends."""


@dataclass(frozen=True, slots=True)
class Books:
    """Our side, in the units that the Stripe meter counts. `used` is what rollups or accruals hold, `reported` what
    became of it in rows.

    `certain` must be counted at Stripe; each of `uncertain` may be or not, and the rest are the rows by their state.
    """

    customer: str
    meter: str
    starts_at: datetime
    ends_at: datetime
    used: int
    reported: int
    certain: int
    uncertain: tuple[int, ...]
    recent: int
    pending: int
    doubtful: int
    cancelling: int
    parked: int
    too_old: int
    written_off: int
    stripe_meter: str | None
    stripe_customers: tuple[str, ...]
    """The customer's id at Stripe, and those that it had when rows were written."""


@dataclass(frozen=True, slots=True)
class Explained:
    """`gap` is what Stripe counts beyond everything that we know of; None where that cannot be said (yet)."""

    causes: tuple[str, ...]
    gap: Decimal | None
    needs_operator: bool


def explain(books: Books, at_stripe: Decimal | None) -> Explained:
    """Why what was used is not what Stripe counts; no causes: it is. `at_stripe`: None where it could not be asked."""
    if books.stripe_meter is None:
        return Explained((f"not linked to a Stripe meter: {books.used}",) if books.used else (), None, bool(books.used))
    causes = [
        f"{what}: {units}"
        for what, units in (
            ("settling", books.used - books.reported if books.stripe_customers else 0),
            ("no Stripe id", 0 if books.stripe_customers else books.used - books.reported),
            ("accepted a moment ago", books.recent if _shows_yet(books, at_stripe) is False else 0),
            ("pending", books.pending),
            ("in doubt", books.doubtful),
            ("being taken back", books.cancelling),
            ("parked", books.parked),
            ("too old", books.too_old),
            ("written off", books.written_off),
        )
        if units
    ]
    needs_operator = bool(books.parked or books.too_old or (not books.stripe_customers and books.used))
    gap = None
    if at_stripe is not None and not agrees(books, at_stripe):
        gap = at_stripe - books.certain if not books.uncertain else None
        side = "lower" if at_stripe < books.certain else "higher"
        causes.append(f"Stripe {side}: {at_stripe - books.certain:+f}" + ("" if gap else ", while rows are under way"))
        needs_operator = needs_operator or (gap is not None and gap > 0)
    return Explained(tuple(causes), gap, needs_operator)


def agrees(books: Books, at_stripe: Decimal) -> bool:
    """Whether Stripe counts what it must, and of the uncertain some. Beyond 2^53 both are only as exact as floats."""
    found = float(at_stripe)
    if len(books.uncertain) > MOST_COMBINED:
        least = books.certain + sum(value for value in books.uncertain if value < 0)
        most = books.certain + sum(value for value in books.uncertain if value > 0)
        return float(least) <= found <= float(most)
    return any(float(books.certain + sum(some)) == found for some in _selections(books.uncertain))


def _shows_yet(books: Books, at_stripe: Decimal | None) -> bool | None:
    return None if at_stripe is None or not books.recent else float(books.certain + books.recent) == float(at_stripe)


def _selections(values: Sequence[int]) -> list[tuple[int, ...]]:
    return [some for size in range(len(values) + 1) for some in combinations(values, size)]
