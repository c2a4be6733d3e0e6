"""Numbers, sizes, durations, money and times as people read them.

Pure: the same input gives the same text, "now" and the time zone are passed in. Binary floats are refused, because
a figure that is off by a cent or a unit on the page can't be told from one that is off in the books.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal

from metering.money import minor_digits, round_money

MINUS = "\u2212"
NO_BREAK = "\u00a0"

_COUNT_STEPS = ("", "K", "M", "B", "T")
_BYTE_STEPS = ("B", "KB", "MB", "GB", "TB", "PB")
_SIGNS = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "INR": "₹", "KRW": "₩", "CAD": "CA$", "AUD": "A$"}
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_SPANS = ((365 * _DAY, "year"), (30 * _DAY, "month"), (_DAY, "day"), (_HOUR, "hour"), (_MINUTE, "minute"))


def count(value: Decimal | int) -> str:
    """12431 → "12.4K", 999950 → "1M", 12.5 → "12.5"; at most one decimal from a thousand up, two below it."""
    number = _decimal(value)
    if _rounded(abs(number), 2) < 1000:
        return _plain(_rounded(number, 2))
    return _stepped(number, Decimal(1000), _COUNT_STEPS, "")


def exact(value: Decimal | int) -> str:
    """Every digit, grouped by thousands: Decimal("12431.50") → "12,431.5"."""
    return _plain(_decimal(value))


def size(value: Decimal | int) -> str:
    """Bytes in binary steps, as the catalog counts them (GB = 1024³ bytes): 3435973836 → "3.2 GB"."""
    number = _decimal(value)
    if abs(number) < 1024:
        return f"{_plain(_rounded(number, 0))}{NO_BREAK}B"
    return _stepped(number, Decimal(1024), _BYTE_STEPS, NO_BREAK)


def duration(seconds: Decimal | int) -> str:
    """Its two largest parts: 0.25 → "0.25 s", 750 → "12 min 30 s", 8700 → "2 h 25 min", 36000 → "10 h"."""
    number = _decimal(seconds)
    sign, number = (MINUS if number < 0 else ""), abs(number)
    if 0 < number < Decimal("0.005"):
        return f"{sign}<{NO_BREAK}0.01{NO_BREAK}s"
    if _rounded(number, 2 if number < 10 else 1) < _MINUTE:
        return f"{sign}{_plain(_rounded(number, 2 if number < 10 else 1))}{NO_BREAK}s"
    whole = int(_rounded(number, 0))
    if whole < _HOUR:
        return sign + _two_parts(whole, _MINUTE, "min", "s")
    # To the minute before it is split: 7199 s are 2 h, not 1 h 60 min.
    minutes = int(_rounded(number / _MINUTE, 0))
    return sign + _two_parts(minutes, 60, "h", "min")


def percent(value: Decimal) -> str:
    """41.7 → "42%". "100%" is only said of what has reached it, and "0%" only of nothing."""
    if 0 < value < 1:
        return "<1%"
    if Decimal("99.5") <= value < 100:
        return f"{value.quantize(Decimal('0.1'), ROUND_DOWN)}%"
    return f"{_plain(_rounded(value, 0))}%"


def money(amount: Decimal, currency: str) -> str:
    """To the currency's minor unit: 1234.5 USD → "$1,234.50", 1200 JPY → "¥1,200", −5 CHF → "−CHF 5.00"."""
    return _priced(round_money(_decimal(amount), currency), currency, minor_digits(currency))


def unit_price(amount: Decimal, currency: str) -> str:
    """A price with all of its digits, at least the currency's own: 0.00001 USD → "$0.00001", 10 → "$10.00"."""
    digits = max(minor_digits(currency), _fraction_digits(_decimal(amount)))
    return _priced(_decimal(amount), currency, digits)


def relative(at: datetime, now: datetime) -> str:
    """ "just now", "2 minutes ago", "in 8 days"; whole units only, never more than has really passed."""
    seconds = int((at - now).total_seconds())
    past, seconds = seconds <= 0, abs(seconds)
    if seconds < _MINUTE:
        return "just now" if past else "in less than a minute"
    text = next(plural(seconds // length, word) for length, word in _SPANS if seconds >= length)
    return f"{text} ago" if past else f"in {text}"


def plural(number: int, word: str) -> str:
    """1 → "1 day", 2 → "2 days"."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def moment(at: datetime, zone: tzinfo = UTC) -> str:
    """ "Dec 1, 2026, 18:30 UTC", in the given zone."""
    local = at.astimezone(zone)
    return f"{day(at, zone)}, {local:%H:%M} {local:%Z}"


def day(at: datetime, zone: tzinfo = UTC) -> str:
    """ "Dec 1, 2026", in the given zone."""
    local = at.astimezone(zone)
    return f"{_month_day(local)}, {local.year}"


def short_day(at: datetime, zone: tzinfo = UTC) -> str:
    """ "Dec 1", in the given zone: where the year is clear."""
    return _month_day(at.astimezone(zone))


def period(start: datetime, end: datetime, zone: tzinfo = UTC) -> str:
    """The half-open [start, end): whole days by their first and last, "Nov 1 – 30, 2026"; others with their times."""
    first, last = start.astimezone(zone), end.astimezone(zone)
    if any((at.hour, at.minute, at.second) != (0, 0, 0) for at in (first, last)):
        year = f", {first.year}" if first.year != last.year else ""
        return f"{_month_day(first)}{year}, {first:%H:%M} – {_month_day(last)}, {last.year}, {last:%H:%M}"
    last -= timedelta(days=1)
    if first.year != last.year:
        return f"{_month_day(first)}, {first.year} – {_month_day(last)}, {last.year}"
    if first.month != last.month:
        return f"{_month_day(first)} – {_month_day(last)}, {last.year}"
    return f"{_month_day(first)} – {last.day}, {last.year}" if last.day != first.day else day(start, zone)


def _decimal(value: Decimal | int) -> Decimal:
    if isinstance(value, float):
        raise TypeError("a binary float can't be shown exactly: pass Decimal or int")
    return Decimal(value)


def _rounded(value: Decimal, digits: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)


def _fraction_digits(value: Decimal) -> int:
    exponent = value.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _plain(value: Decimal) -> str:
    text = f"{abs(value):,.{_fraction_digits(value)}f}"
    return MINUS + text if value < 0 else text


def _stepped(value: Decimal, base: Decimal, steps: tuple[str, ...], gap: str) -> str:
    """Climbs on the rounded figure, so that 999.95K becomes 1M and never 1,000K."""
    scaled, step = value, 0
    while step < len(steps) - 1 and _rounded(abs(scaled), 1) >= base:
        scaled, step = scaled / base, step + 1
    return f"{_plain(_rounded(scaled, 1))}{gap}{steps[step]}"


def _two_parts(total: int, size_of_first: int, first: str, second: str) -> str:
    head, rest = divmod(total, size_of_first)
    text = f"{head:,}{NO_BREAK}{first}"
    return f"{text} {rest}{NO_BREAK}{second}" if rest else text


def _priced(amount: Decimal, currency: str, digits: int) -> str:
    code = currency.upper()
    sign = _SIGNS.get(code, code + NO_BREAK)
    return f"{MINUS if amount < 0 else ''}{sign}{abs(amount):,.{digits}f}"


def _month_day(at: datetime) -> str:
    return f"{at:%b} {at.day}"
