"""Prices, by tables worked out by hand and by an oracle that charges unit after unit."""

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.billing.pricing import PricedStep, price_line
from metering.catalog import Catalog, Meter, Price, Tier, load_catalog

D = Decimal
GIB = 1024**3
TEN_DAYS = 864_000
CALLS = Meter(key="calls", name="Calls", unit="call", aggregation="sum")
FINE = Meter(key="fine", name="Fine", unit="second", aggregation="sum", scale=6)


@pytest.fixture(scope="module")
def default_catalog() -> Catalog:
    return load_catalog()


@pytest.mark.parametrize(
    ("meter", "units", "quantity", "billable", "amount"),
    [
        ("api_call", 0, "0", "0", "0.00"),
        ("api_call", 10_000, "10000", "0", "0.00"),
        ("api_call", 10_001, "10001", "1", "0.00"),  # a tenth of a cent
        ("api_call", 10_004, "10004", "4", "0.00"),
        ("api_call", 10_005, "10005", "5", "0.01"),  # half a cent goes up
        ("api_call", 12_345, "12345", "2345", "2.35"),  # 2.345 goes up
        ("api_call", 250_000, "250000", "240000", "240.00"),
        ("tokens", 100_499, "100499", "499", "0.00"),
        ("tokens", 100_500, "100500", "500", "0.01"),
        ("tokens", 1_000_000, "1000000", "900000", "9.00"),
        ("compute_seconds", 3_600_000_000, "3600", "0", "0.00"),
        ("compute_seconds", 3_649_999_999, "3649.999999", "49.999999", "0.00"),  # 0.0049999999
        ("compute_seconds", 3_650_000_000, "3650", "50", "0.01"),
        ("compute_seconds", 13_601_234_567, "13601.234567", "10001.234567", "1.00"),  # 1.0001234567
        ("messages", 1_003, "1003", "3", "0.01"),  # 0.006
        ("seats", 1, "1", "0", "0.00"),
        ("seats", 3, "3", "2", "20.00"),
        # 6 GB for a month of 730 hours: one GB-month beyond the five included
        ("storage_bytes", 6 * GIB * 730 * 3600, "6", "1", "0.02"),
        ("storage_bytes", 5 * GIB * 730 * 3600 + GIB * 730 * 900, "5.25", "0.25", "0.01"),  # half a cent
        ("storage_bytes", 5 * GIB * 730 * 3600 + GIB * 730 * 900 - 1, None, None, "0.00"),  # one byte-second less
    ],
)
def test_the_default_prices_by_hand(
    default_catalog: Catalog, meter: str, units: int, quantity: str | None, billable: str | None, amount: str
) -> None:
    price = default_catalog.prices[meter]

    line = price_line(price, units, default_catalog.meters[meter], "USD")

    assert str(line.amount) == amount
    assert (line.meter, line.unit, line.unit_price, line.included) == (meter, price.unit, price.amount, price.included)
    if quantity is not None and billable is not None:
        assert (line.quantity, line.billable) == (D(quantity), D(billable))


def test_a_quantity_without_a_last_digit_is_kept_far_beyond_any_money(default_catalog: Catalog) -> None:
    line = price_line(
        default_catalog.prices["storage_bytes"], 10 * GIB * TEN_DAYS, default_catalog.meters["storage_bytes"], "USD"
    )

    # 10 GB x 240 hours / 730 hours = 240/73 GB-months
    assert str(line.quantity).startswith("3.28767123287671232876712328767123287671232876")


@pytest.mark.parametrize(
    ("units", "billable", "amount"),
    [
        (0, "0", "0.00"),
        (2_000, "0", "0.00"),  # two packages are included
        (2_001, "1", "1.50"),
        (3_000, "1", "1.50"),
        (3_001, "2", "3.00"),
        (10_000, "8", "12.00"),
    ],
)
def test_packages_are_charged_whole(units: int, billable: str, amount: str) -> None:
    price = Price(model="package", unit="1,000 calls", size=D(1000), amount=D("1.5"), included=D(2))

    line = price_line(price, units, CALLS, "USD")

    assert (str(line.billable), str(line.amount), line.unit_price) == (billable, amount, D("1.5"))


TIERS = (Tier(up_to=D(100), amount=D("0.10")), Tier(up_to=D(1000), amount=D("0.05"), flat=D(2)), Tier(amount=D("0.01")))


@pytest.mark.parametrize(
    ("units", "graduated", "volume"),
    [
        (0, "0.00", "0.00"),
        (1, "0.10", "0.10"),
        (100, "10.00", "10.00"),
        (101, "12.05", "7.05"),  # 10 + 2 + 0.05;  2 + 5.05
        (1000, "57.00", "52.00"),  # 10 + 2 + 45;  2 + 50
        (1001, "57.01", "10.01"),
        (1500, "62.00", "15.00"),
    ],
)
def test_tiers_by_hand(units: int, graduated: str, volume: str) -> None:
    by_step = price_line(Price(model="graduated", unit="call", tiers=TIERS), units, CALLS, "USD")
    by_volume = price_line(Price(model="volume", unit="call", tiers=TIERS), units, CALLS, "USD")

    assert (str(by_step.amount), str(by_volume.amount)) == (graduated, volume)
    assert by_step.unit_price is None is by_volume.unit_price


def test_a_tiered_line_says_what_it_is_made_of() -> None:
    line = price_line(Price(model="graduated", unit="call", tiers=TIERS, included=D(50)), 1_250, CALLS, "USD")

    assert line.steps == (
        PricedStep(D(100), D(100), D("0.10"), D(0), D(10)),
        PricedStep(D(1000), D(900), D("0.05"), D(2), D(47)),
        PricedStep(None, D(200), D("0.01"), D(0), D(2)),
    )
    assert (line.quantity, line.included, line.billable, line.amount) == (D(1250), D(50), D(1200), D("59.00"))


def test_a_volume_line_is_one_step() -> None:
    line = price_line(Price(model="volume", unit="call", tiers=TIERS), 150, CALLS, "USD")

    assert line.steps == (PricedStep(D(1000), D(150), D("0.05"), D(2), D("9.50")),)


@pytest.mark.parametrize(("currency", "amount"), [("USD", "0.13"), ("JPY", "0"), ("KWD", "0.125")])
def test_an_amount_is_rounded_to_the_minor_unit_of_its_currency(currency: str, amount: str) -> None:
    line = price_line(Price(unit="call", amount=D("0.125")), 1, CALLS, currency)

    assert str(line.amount) == amount


def test_exactly_half_a_cent_goes_up_even_where_the_quantity_has_no_last_digit() -> None:
    """A third of a unit at 0.015: a quotient cut off anywhere would make 0.00499…"""
    line = price_line(Price(unit="bundle", size=D(3), amount=D("0.015")), 1, CALLS, "USD")

    assert str(line.amount) == "0.01"


def test_a_hair_below_half_a_cent_goes_down_however_fine_the_hair() -> None:
    size = D(10) ** 80
    line = price_line(Price(unit="bundle", size=size, amount=D("0.01")), 5 * 10**79 - 1, CALLS, "USD")

    assert str(line.amount) == "0.00"


def test_amounts_may_be_larger_than_the_usual_precision_of_decimals() -> None:
    line = price_line(Price(unit="call", amount=D("123456789.01")), 10**25, CALLS, "USD")

    assert str(line.amount) == "1234567890100000000000000000000000.00"


def test_the_digits_of_a_fine_meter_are_all_charged() -> None:
    line = price_line(Price(unit="second", amount=D(1)), 1_005_000, FINE, "USD")

    assert (line.quantity, str(line.amount)) == (D("1.005"), "1.01")


# -- against an oracle -----------------------------------------------------------------------------------------------

amounts = st.integers(0, 300).map(lambda thousandths: D(thousandths) / 1000)
whole = st.integers(0, 60)


@st.composite
def tiers(draw: Any) -> tuple[Tier, ...]:
    edges = draw(st.lists(st.integers(1, 40), max_size=3, unique=True).map(sorted))
    return tuple(
        Tier(up_to=None if edge is None else D(edge), amount=draw(amounts), flat=draw(amounts))
        for edge in [*edges, None]
    )


@given(units=whole, included=whole, amount=amounts)
def test_per_unit_agrees_with_charging_unit_after_unit(units: int, included: int, amount: Decimal) -> None:
    line = price_line(Price(unit="call", amount=amount, included=D(included)), units, CALLS, "USD")

    assert line.amount == cents(sum((amount for number in range(1, units + 1) if number > included), D(0)))


@given(units=whole, included=st.integers(0, 5), size=st.integers(1, 9), amount=amounts)
def test_packages_agree_with_opening_one_after_the_other(units: int, included: int, size: int, amount: Decimal) -> None:
    price = Price(model="package", unit="pack", size=D(size), amount=amount, included=D(included))
    opened, room = 0, included * size
    for _ in range(units):
        if room == 0:
            opened, room = opened + 1, size
        room -= 1

    line = price_line(price, units, CALLS, "USD")

    assert (line.billable, line.amount) == (D(opened), cents(opened * amount))


@given(units=whole, included=whole, tiers=tiers())
def test_graduated_agrees_with_asking_each_unit_for_its_tier(
    units: int, included: int, tiers: tuple[Tier, ...]
) -> None:
    price = Price(model="graduated", unit="call", tiers=tiers, included=D(included))
    total, entered = D(0), set()
    for number in range(1, units - included + 1):
        place = tier_of(tiers, number)
        total += tiers[place].amount + (D(0) if place in entered else tiers[place].flat)
        entered.add(place)

    line = price_line(price, units, CALLS, "USD")

    assert line.amount == cents(total)
    assert len(line.steps) == len(entered)
    assert sum(step.quantity for step in line.steps) == line.billable
    assert cents(sum((step.amount for step in line.steps), D(0))) == line.amount


@given(units=whole, included=whole, tiers=tiers())
def test_volume_agrees_with_charging_all_units_as_the_last_one(
    units: int, included: int, tiers: tuple[Tier, ...]
) -> None:
    price = Price(model="volume", unit="call", tiers=tiers, included=D(included))
    billable = max(0, units - included)
    tier = tiers[tier_of(tiers, billable)]

    line = price_line(price, units, CALLS, "USD")

    assert line.amount == (cents(billable * tier.amount + tier.flat) if billable else D("0.00"))


@given(units=st.integers(0, 10**9), scale=st.integers(0, 6), price=st.integers(0, 10**6))
def test_rounding_agrees_with_whole_numbers(units: int, scale: int, price: int) -> None:
    """Half a cent goes up, told by whole numbers alone: amount = units x price / 10^(scale + 6)."""
    meter = Meter(key="any", name="Any", unit="unit", aggregation="sum", scale=scale)

    line = price_line(Price(unit="unit", amount=D(price).scaleb(-6)), units, meter, "USD")

    cent = 10 ** (scale + 4)
    assert int(line.amount * 100) == (2 * units * price + cent) // (2 * cent)


def tier_of(tiers: tuple[Tier, ...], number: int) -> int:
    return next(place for place, tier in enumerate(tiers) if tier.up_to is None or number <= tier.up_to)


def cents(amount: Decimal) -> Decimal:
    return amount.quantize(D("0.01"), rounding=ROUND_HALF_UP)
