"""Quantities of a meter as people read them. Pure.

Short ("12.4K", "3.2 GB", "2 h") for cards, exact with the unit ("12,431 API calls") for those who point at them.
"""

from decimal import Decimal

from metering import humanize
from metering.catalog import Meter, Price

SHOWN_DIGITS = 4
NO_BREAK_HYPHEN = "\u2011"


def short(meter: Meter, quantity: Decimal) -> str:
    """Bytes and seconds carry their unit themselves; others stand beside `unit_beside`."""
    if meter.display == "bytes":
        return humanize.size(quantity)
    return humanize.duration(quantity) if meter.display == "seconds" else humanize.count(quantity)


def unit_beside(meter: Meter, quantity: Decimal) -> str:
    """The unit that a short figure needs beside it; empty where it carries its own."""
    return "" if meter.display != "number" else unit_word(meter.unit, quantity)


def in_words(meter: Meter, quantity: Decimal) -> str:
    """For sentences: "1,000 API calls", "100 MB"."""
    return exact(meter, quantity) if meter.display == "number" else short(meter, quantity)


def bare(meter: Meter, quantity: Decimal) -> str:
    """In full, for where the unit is said already: "1,000", "100 MB"."""
    return humanize.exact(quantity) if meter.display == "number" else short(meter, quantity)


def exact(meter: Meter, quantity: Decimal) -> str:
    return f"{humanize.exact(quantity)} {unit_word(meter.unit, quantity)}"


def unit_word(unit: str, quantity: Decimal) -> str:
    """ "API call", 2 → "API calls". Units that are signs ("GB", "%") have no plural."""
    takes_plural = unit[-1].islower() and not unit.endswith("s")
    return f"{unit}s" if takes_plural and quantity != 1 else unit


def charged(quantity: Decimal) -> str:
    """A figure of a bill: whole numbers in full, others to four decimals, and never 0 for what is something."""
    rounded = round(quantity, SHOWN_DIGITS)
    if quantity and not rounded:
        return f"<{humanize.exact(Decimal(1).scaleb(-SHOWN_DIGITS))}"
    return humanize.exact(rounded)


def included_quantity(meter: Meter, price: Price | None) -> Decimal | None:
    """What costs nothing, in the meter's own unit; None where it is no such quantity (GB-months of a level)."""
    if price is None or meter.bills_as == "time_weighted":
        return None
    return price.included * price.size


def all_included(meter: Meter, price: Price | None, limit: Decimal | None, mode: str) -> bool:
    """Whether a hard limit ends before anything costs: then no figure of what is included says more than the limit."""
    included = included_quantity(meter, price)
    return mode == "hard" and limit is not None and included is not None and limit <= included


def included_text(meter: Meter, price: Price | None) -> str | None:
    quantity = included_quantity(meter, price)
    if quantity is not None:
        return short(meter, quantity)
    if price is None:
        return None
    # It stands in a narrow column: "GB-months" is one word there.
    unit = unit_word(price.unit, price.included).replace("-", NO_BREAK_HYPHEN)
    return f"{humanize.count(price.included)}{humanize.NO_BREAK}{unit}"


def included_exact(meter: Meter, price: Price | None) -> str | None:
    quantity = included_quantity(meter, price)
    return included_text(meter, price) if quantity is None else exact(meter, quantity)
