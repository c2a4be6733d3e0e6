"""Figures as people read them: the edges where rounding changes the unit, and what must never be said."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from metering import humanize

NB = humanize.NO_BREAK
NOW = datetime(2026, 11, 23, 15, 4, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1, "1"),
        (999, "999"),
        (1000, "1K"),
        (1049, "1K"),
        (1050, "1.1K"),
        (12_431, "12.4K"),
        (100_000, "100K"),
        (999_949, "999.9K"),
        (999_950, "1M"),
        (1_200_000, "1.2M"),
        (999_950_000, "1B"),
        (2**53 - 1, "9,007.2T"),
        (-12_431, "−12.4K"),
        (Decimal("12.5"), "12.5"),
        (Decimal("0.005"), "0.01"),
        (Decimal("999.994"), "999.99"),
        (Decimal("999.995"), "1K"),
        (Decimal("1E+3"), "1K"),
    ],
)
def test_counts(value, text):
    assert humanize.count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (12_431, "12,431"),
        (Decimal("12431.50"), "12,431.5"),
        (Decimal("0.000001"), "0.000001"),
        (Decimal("1E+6"), "1,000,000"),
        (-1_000, "−1,000"),
        (2**53 - 1, "9,007,199,254,740,991"),
    ],
)
def test_exact_figures_lose_no_digit(value, text):
    assert humanize.exact(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, f"0{NB}B"),
        (1023, f"1,023{NB}B"),
        (1024, f"1{NB}KB"),
        (100 * 1024**2, f"100{NB}MB"),
        (1024**3 - 1, f"1{NB}GB"),
        (Decimal("3.2") * 1024**3, f"3.2{NB}GB"),
        (10 * 1024**3, f"10{NB}GB"),
        (1024**5, f"1{NB}PB"),
        (5000 * 1024**5, f"5,000{NB}PB"),
        (-2048, f"−2{NB}KB"),
    ],
)
def test_sizes_are_binary(value, text):
    assert humanize.size(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (Decimal("0.000001"), "< 0.01 s"),
        (Decimal("0.25"), "0.25 s"),
        (Decimal("12.54"), "12.5 s"),
        (Decimal("59.94"), "59.9 s"),
        (Decimal("59.95"), "1 min"),
        (60, "1 min"),
        (750, "12 min 30 s"),
        (Decimal("3599.4"), "59 min 59 s"),
        (Decimal("3599.5"), "1 h"),
        (8700, "2 h 25 min"),
        (7199, "2 h"),
        (36_000, "10 h"),
        (3_600_000, "1,000 h"),
        (-90, "−1 min 30 s"),
    ],
)
def test_durations_have_two_parts_at_most(seconds, text):
    assert humanize.duration(seconds).replace(NB, " ") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0", "0%"),
        ("0.01", "<1%"),
        ("41.7", "42%"),
        ("99.4", "99%"),
        ("99.96", "99.9%"),
        ("99.999999", "99.9%"),
        ("100", "100%"),
        ("104.2", "104%"),
        ("100000", "100,000%"),
    ],
)
def test_percent_says_0_and_100_only_when_true(value, text):
    assert humanize.percent(Decimal(value)) == text


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("1234.5", "USD", "$1,234.50"),
        ("0", "usd", "$0.00"),
        ("0.005", "USD", "$0.01"),
        ("-5", "EUR", "−€5.00"),
        ("1200", "JPY", "¥1,200"),
        ("1.5", "KWD", f"KWD{NB}1.500"),
        ("9", "CHF", f"CHF{NB}9.00"),
        ("12345678901234567.89", "USD", "$12,345,678,901,234,567.89"),
    ],
)
def test_money(amount, currency, text):
    assert humanize.money(Decimal(amount), currency) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [("0.00001", "$0.00001"), ("0.02", "$0.02"), ("10", "$10.00"), ("1E+1", "$10.00"), ("0.0010", "$0.001")],
)
def test_unit_prices_keep_all_of_their_digits(amount, text):
    assert humanize.unit_price(Decimal(amount), "USD") == text


@pytest.mark.parametrize("show", [humanize.count, humanize.exact, humanize.size, humanize.duration])
def test_binary_floats_are_refused(show):
    with pytest.raises(TypeError, match="binary float"):
        show(0.1)


def test_money_refuses_binary_floats():
    with pytest.raises(TypeError, match="binary float"):
        humanize.money(0.1, "USD")


@pytest.mark.parametrize(
    ("away", "text"),
    [
        (timedelta(0), "just now"),
        (timedelta(seconds=-59), "just now"),
        (timedelta(seconds=30), "in less than a minute"),
        (timedelta(seconds=-60), "1 minute ago"),
        (timedelta(minutes=-119), "1 hour ago"),
        (timedelta(hours=23, minutes=59), "in 23 hours"),
        (timedelta(days=8), "in 8 days"),
        (timedelta(days=-45), "1 month ago"),
        (timedelta(days=-800), "2 years ago"),
    ],
)
def test_relative_times(away, text):
    assert humanize.relative(NOW + away, NOW) == text


def test_moments_are_told_in_the_customers_zone():
    berlin = ZoneInfo("Europe/Berlin")
    assert humanize.moment(datetime(2026, 11, 30, 23, 0, tzinfo=UTC), berlin) == "Dec 1, 2026, 00:00 CET"
    assert humanize.day(datetime(2026, 11, 30, 23, 0, tzinfo=UTC), berlin) == "Dec 1, 2026"


@pytest.mark.parametrize(
    ("start", "end", "text"),
    [
        (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC), "Nov 1 – 30, 2026"),
        (datetime(2026, 11, 15, tzinfo=UTC), datetime(2026, 12, 15, tzinfo=UTC), "Nov 15 – Dec 14, 2026"),
        (datetime(2026, 12, 5, tzinfo=UTC), datetime(2027, 1, 5, tzinfo=UTC), "Dec 5, 2026 – Jan 4, 2027"),
        (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC), "Nov 1, 2026"),
        (
            datetime(2026, 11, 1, 18, 30, tzinfo=UTC),
            datetime(2026, 12, 1, 18, 30, tzinfo=UTC),
            "Nov 1, 18:30 – Dec 1, 2026, 18:30",
        ),
        (
            datetime(2026, 12, 15, 9, 0, tzinfo=UTC),
            datetime(2027, 1, 15, 9, 0, tzinfo=UTC),
            "Dec 15, 2026, 09:00 – Jan 15, 2027, 09:00",
        ),
    ],
)
def test_half_open_periods_are_told_by_their_last_day(start, end, text):
    assert humanize.period(start, end) == text


def test_plural():
    assert [humanize.plural(n, "day") for n in (0, 1, 2, 1200)] == ["0 days", "1 day", "2 days", "1,200 days"]
