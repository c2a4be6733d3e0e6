"""Rates as the catalog writes them, and as header fields tell them."""

from datetime import timedelta
from importlib import resources

import pytest

from metering.calls.headers import limit_headers
from metering.catalog import Rate
from metering.catalog.loader import load_catalog
from metering.clock import from_micros
from metering.errors import ConfigurationError
from metering.intake.values import MeterStanding, RateStanding, Span


def catalog_with(tmp_path, rate: str):
    text = resources.files("metering.catalog").joinpath("default.toml").read_text("utf-8")
    file = tmp_path / "catalog.toml"
    file.write_text(f"{text}\n[plans.enterprise.rate]\n{rate}\n")
    return load_catalog(file)


@pytest.mark.parametrize(
    ("written", "count", "seconds", "burst", "interval"),
    [
        ('"50/second"', 50, 1, 50, 20_000),
        ('"7/second"', 7, 1, 7, 142_858),
        ('{ rate = "600/minute", burst = 50 }', 600, 60, 50, 100_000),
        ('{ rate = "1/hour" }', 1, 3600, 1, 3_600_000_000),
        ('{ rate = "50/second", burst = 100 }', 50, 1, 100, 20_000),
    ],
)
def test_a_rate_is_read(tmp_path, written, count, seconds, burst, interval) -> None:
    rates = catalog_with(tmp_path, f"customer = {written}").plans["enterprise"].rate

    assert rates.key is None
    rate = rates.customer
    assert (rate.count, rate.seconds, rate.burst, rate.interval_micros) == (count, seconds, burst, interval)


def test_the_default_catalog_has_none() -> None:
    assert {plan.rate.customer or plan.rate.key for plan in load_catalog().plans.values()} == {None}


@pytest.mark.parametrize(
    "wrong",
    [
        '"0/second"',
        '"50/fortnight"',
        '"50"',
        '"-5/second"',
        '"1.5/second"',
        '"10001/second"',
        '"50/second "',
        "50",
        "true",
        "{ burst = 5 }",
        '{ rate = "50/second", burst = 0 }',
        '{ rate = "50/second", burst = 1.5 }',
        '{ rate = "50/second", burst = true }',
        '{ rate = "1/hour", burst = 745 }',
        '{ rate = "50/second", brust = 5 }',
    ],
)
def test_a_wrong_rate_is_refused_with_its_path(tmp_path, wrong) -> None:
    with pytest.raises(ConfigurationError, match=r"\n  plans\.enterprise\.rate\.key"):
        catalog_with(tmp_path, f"key = {wrong}")


def test_an_unknown_scope_of_a_rate_is_refused(tmp_path) -> None:
    with pytest.raises(ConfigurationError, match=r"plans\.enterprise\.rate\.user: "):
        catalog_with(tmp_path, 'user = "50/second"')


def test_a_rounded_interval_never_lets_more_in() -> None:
    for count in (1, 3, 7, 999, 9_999):
        rate = Rate.model_validate(f"{count}/second")
        assert 1_000_000 <= rate.interval_micros * count < 1_010_000


NOW = from_micros(1_795_000_000_250_000)
PERIOD = Span(1, NOW - timedelta(days=10), NOW + timedelta(days=20))


def rate_standing(**more) -> RateStanding:
    now = 1_795_000_000_250_000
    ahead = more.pop("ahead", 0)
    given = {"which": "customer", "count": 50, "seconds": 1, "burst": 100, "interval_micros": 20_000}
    return RateStanding(**given | more, arrival=now + ahead)


def test_rates_stand_beside_limits(catalog) -> None:
    meter = MeterStanding("api_call", "hard", 1000, used=100, held=0)
    by_key = rate_standing(which="key", count=600, seconds=60, burst=10, interval_micros=100_000, ahead=950_000)

    headers = limit_headers(catalog.meters, [meter], [rate_standing(), by_key], PERIOD, NOW)

    assert headers == {
        "RateLimit-Policy": '"api_call";q=1000;w=2592000, "customer-rate";q=50;w=1, "key-rate";q=600;w=60',
        "RateLimit": '"api_call";r=900;t=1728000, "customer-rate";r=100;t=0, "key-rate";r=0;t=1',
        "X-RateLimit-Limit": "10",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": "1795000002",
    }


def test_a_limit_that_is_nearer_to_its_end_is_the_trios(catalog) -> None:
    meter = MeterStanding("api_call", "hard", 1000, used=999, held=0)

    headers = limit_headers(catalog.meters, [meter], [rate_standing(ahead=1_000_000)], PERIOD, NOW)

    assert (headers["X-RateLimit-Limit"], headers["X-RateLimit-Remaining"]) == ("1000", "1")


def test_a_rate_alone_has_fields_too(catalog) -> None:
    unlimited = MeterStanding("api_call", "none", None, used=5, held=0)

    headers = limit_headers(catalog.meters, [unlimited], [rate_standing(ahead=20_000)], PERIOD, NOW)

    assert headers["RateLimit-Policy"] == '"customer-rate";q=50;w=1'
    assert headers["RateLimit"] == '"customer-rate";r=99;t=1'
