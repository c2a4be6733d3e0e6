"""A forecast against figures worked out by hand."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from metering.billing.estimate import Estimate, EstimateLine
from metering.billing.forecast import Pace, forecast, pace_of
from metering.billing.pricing import price_line
from metering.catalog import Catalog, load_catalog
from metering.money import round_money

START, END = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog()


def bill(catalog: Catalog, plan: str = "pro", **units: int) -> Estimate:
    lines = [EstimateLine(f"{plan} plan", round_money(catalog.plans[plan].base_fee, catalog.currency))]
    for key, quantity in units.items():
        price = catalog.price(plan, key)
        assert price is not None
        line = price_line(price, quantity, catalog.meters[key], catalog.currency)
        lines.append(EstimateLine(key, line.amount, line))
    total = sum((line.amount for line in lines), Decimal(0))
    return Estimate("acme", 1, plan, START, END, START, catalog.currency, tuple(lines), total)


def amounts(found: Estimate) -> dict[str, str]:
    return {line.meter or "fee": str(line.amount) for line in found.lines} | {"total": str(found.total)}


def days(*quantities: int, until: datetime) -> list[tuple[datetime, Decimal]]:
    first = until - len(quantities) * DAY
    return [(first + place * DAY, Decimal(quantity)) for place, quantity in enumerate(quantities)]


def test_the_pace_is_that_of_the_last_seven_days() -> None:
    now = START + 15 * DAY
    pace = pace_of(days(900, 900, *[100] * 6, 170, until=now), as_of=now)

    assert pace == Pace(Decimal(770), 7 * DAY)
    assert pace.within(10 * DAY) == 1100
    assert pace.until(Decimal(220)) == 2 * DAY


def test_who_began_lately_is_measured_from_then_on_but_by_no_less_than_a_day() -> None:
    now = START + 15 * DAY
    assert pace_of(days(0, 0, 0, 0, 0, 60, 40, until=now), as_of=now) == Pace(Decimal(100), 2 * DAY)
    begun_at_noon = [*days(0, 0, 0, until=START + 3 * DAY), (START + 3 * DAY, Decimal(30))]
    assert pace_of(begun_at_noon, as_of=START + 3.5 * DAY) == Pace(Decimal(30), DAY)


def test_who_uses_nothing_reaches_nothing() -> None:
    pace = pace_of(days(0, 0, until=START + 2 * DAY), as_of=START + 2 * DAY)
    assert (pace.within(30 * DAY), pace.until(Decimal(1))) == (0, None)
    assert pace_of([], as_of=START).within(DAY) == 0


def test_usage_goes_on_at_its_pace(catalog: Catalog) -> None:
    """Given 9,000 calls by the 16th and 700 in a week, then 1,500 more come by the 1st: 500 beyond what is included."""
    found = forecast(
        catalog, bill(catalog, api_call=9_000), {"api_call": Pace(Decimal(700), 7 * DAY)}, {}, now=START + 15 * DAY
    )

    assert amounts(found) == {"fee": "49.00", "api_call": "0.50", "total": "49.50"}
    assert (found.as_of, found.lines[1].usage and found.lines[1].usage.quantity) == (END, 10_500)


def test_nothing_is_foretold_beyond_a_hard_limit(catalog: Catalog) -> None:
    """Given 82,200 calls in a day, then at most 100,000 are let in: $90. On enterprise nothing ends them."""
    pace = {"api_call": Pace(Decimal(82_200), DAY)}
    for plan, amount in (("pro", "90.00"), ("enterprise", "1716.20")):
        found = forecast(catalog, bill(catalog, plan, api_call=82_200), pace, {}, now=END - 20 * DAY)
        assert amounts(found)["api_call"] == amount
    beyond = forecast(catalog, bill(catalog, api_call=150_000), pace, {}, now=START)
    assert amounts(beyond)["api_call"] == "140.00", "what was let in all the same costs what it costs"


def test_a_level_that_is_billed_by_time_costs_on(catalog: Catalog) -> None:
    """Given 10 GB since the 16th, then half a month of them is 5 GB-months, and included; 20 GB are 5 beyond it."""
    price, meter = catalog.price("pro", "storage_bytes"), catalog.meters["storage_bytes"]
    assert price is not None
    month = Decimal(price.size) / 10**9  # seconds that a GB-month has
    now = END - timedelta(seconds=int(month)) / 2
    for gigabytes, amount in ((10, "0.00"), (20, "0.10")):
        level = Decimal(gigabytes * 10**9)
        found = forecast(catalog, bill(catalog, storage_bytes=0), {}, {meter.key: level}, now=now)
        assert amounts(found)[meter.key] == amount


def test_a_level_that_is_billed_by_its_maximum_has_it(catalog: Catalog) -> None:
    found = forecast(catalog, bill(catalog, seats=3), {}, {"seats": Decimal(2)}, now=START)
    assert amounts(found)["seats"] == "20.00"


def test_a_period_that_is_over_costs_what_it_costs(catalog: Catalog) -> None:
    over = bill(catalog, api_call=12_000)
    found = forecast(catalog, over, {"api_call": Pace(Decimal(700), DAY)}, {}, now=END + DAY)
    assert amounts(found) == amounts(over)
