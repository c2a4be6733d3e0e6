"""A price at Stripe bills what ours does: by tables worked out by hand, and by an oracle that bills as Stripe does."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from metering.billing.pricing import price_line
from metering.catalog import Catalog, Meter, Price, Tier, load_catalog
from metering.stripe_sync.terms import SCALED_UNIT, Amounts, Inexpressible, TierTerms, amounts_of, plainly
from metering.stripe_sync.units import unit_of
from tests.factories.stripe_bills import stripe_bills

D = Decimal
GIB = 1024**3
MONTH_HOURS = 744
CALLS = Meter(key="calls", name="Calls", unit="call", aggregation="sum")
FINE = Meter(key="fine", name="Fine", unit="second", aggregation="sum", scale=6)


@pytest.fixture(scope="module")
def default_catalog() -> Catalog:
    return load_catalog()


def tiers(*steps: tuple[int | None, str] | tuple[int | None, str, int]) -> tuple[TierTerms, ...]:
    return tuple(TierTerms(step[0], D(step[1]), *step[2:]) for step in steps)


@pytest.mark.parametrize(
    ("meter", "expected"),
    [
        ("api_call", ((10_000, "0"), (None, "0.1"))),  # a tenth of a cent
        ("tokens", ((100_000, "0"), (None, "0.001"))),
        ("compute_seconds", ((3_600_000_000, "0"), (None, "0.00000001"))),  # 0.01 cents for a million millionths
        ("messages", ((1_000, "0"), (None, "0.2"))),
        ("seats", ((1, "0"), (None, "1000"))),
        ("storage_bytes", ((5_000_000_000, "0"), (None, "0.000000002"))),  # two cents for a thousand million billionths
    ],
)
def test_the_default_prices_by_hand(default_catalog: Catalog, meter: str, expected: Any) -> None:
    unit = unit_of(default_catalog, default_catalog.meters[meter])

    amounts = amounts_of(default_catalog.prices[meter], default_catalog.meters[meter], unit, "USD")

    assert amounts == Amounts(tiers=tiers(*expected), tiers_mode="graduated")


def test_only_storage_is_counted_in_another_unit_than_our_own(default_catalog: Catalog) -> None:
    units = {key: unit_of(default_catalog, meter) for key, meter in default_catalog.meters.items()}

    assert units.pop("storage_bytes") == D("2821793.513472")  # 1024^3 bytes x 730 hours x 3600 seconds / 10^9
    assert set(units.values()) == {SCALED_UNIT}


PRICES = {
    "plain": (
        Price(unit="call", amount=D("0.002")),
        Amounts(unit_amount=D("0.2")),
    ),
    "by the thousand, part of one as well": (
        Price(unit="1000 calls", size=D(1000), amount=D("1.5")),
        Amounts(unit_amount=D("0.15")),
    ),
    "packages": (
        Price(model="package", unit="1000 calls", size=D(1000), amount=D("1.5")),
        Amounts(unit_amount=D(150), divide_by=1000),
    ),
    "packages of one": (
        Price(model="package", unit="call", amount=D("1.5")),
        Amounts(unit_amount=D(150)),
    ),
    "graduated, shifted by what is included": (
        Price(
            model="graduated",
            unit="call",
            included=D(100),
            tiers=(Tier(up_to=D(1000), amount=D("0.01")), Tier(amount=D("0.005"), flat=D(2))),
        ),
        Amounts(tiers=tiers((100, "0"), (1100, "1"), (None, "0.5", 200)), tiers_mode="graduated"),
    ),
    "graduated by the thousand": (
        Price(
            model="graduated",
            unit="1000 calls",
            size=D(1000),
            tiers=(Tier(up_to=D("1.5"), amount=D(4)), Tier(amount=D(1))),
        ),
        Amounts(tiers=tiers((1500, "0.4"), (None, "0.1")), tiers_mode="graduated"),
    ),
    "a flat amount from the first unit on": (
        Price(model="graduated", unit="call", tiers=(Tier(up_to=D(10), amount=D(1), flat=D(5)), Tier(amount=D("0.5")))),
        Amounts(tiers=tiers((1, "600"), (10, "100"), (None, "50")), tiers_mode="graduated"),
    ),
    "volume": (
        Price(model="volume", unit="call", tiers=(Tier(up_to=D(10), amount=D(1)), Tier(amount=D("0.5")))),
        Amounts(tiers=tiers((10, "100"), (None, "50")), tiers_mode="volume"),
    ),
    "volume with a flat amount in all tiers": (
        Price(model="volume", unit="call", tiers=(Tier(up_to=D(10), flat=D(5)), Tier(flat=D(8), amount=D("0.01")))),
        Amounts(tiers=tiers((1, "500"), (10, "0", 500), (None, "1", 800)), tiers_mode="volume"),
    ),
    "volume, what is included given back by a smaller flat amount": (
        Price(model="volume", unit="call", included=D(10), tiers=(Tier(amount=D("0.1"), flat=D(7)),)),
        Amounts(tiers=tiers((10, "0"), (None, "10", 600)), tiers_mode="volume"),
    ),
    "a tier that nothing falls into": (
        Price(model="graduated", unit="call", tiers=(Tier(up_to=D(0), flat=D(9)), Tier(amount=D(1)))),
        Amounts(tiers=tiers((None, "100")), tiers_mode="graduated"),
    ),
}


@pytest.mark.parametrize(("price", "expected"), PRICES.values(), ids=PRICES)
def test_prices_by_hand(price: Price, expected: Amounts) -> None:
    assert amounts_of(price, CALLS, SCALED_UNIT, "USD") == expected


def test_scale_and_currency_are_divided_out() -> None:
    a_second = Price(unit="second", amount=D(3), included=D("0.5"))

    assert amounts_of(a_second, FINE, SCALED_UNIT, "JPY").tiers == tiers((500_000, "0"), (None, "0.000003"))
    assert amounts_of(a_second, FINE, SCALED_UNIT, "KWD").tiers == tiers((500_000, "0"), (None, "0.003"))


@pytest.mark.parametrize(
    ("price", "says"),
    [
        (Price(model="package", unit="k", size=D(1000), amount=D(1), included=D(1)), "packages cannot have included"),
        (Price(model="package", unit="k", size=D("2.5"), amount=D(1)), "size of a package"),
        (Price(unit="third", size=D(3), amount=D("0.01")), "0.333333 of the currency's minor unit"),
        (Price(unit="call", amount=D("0.000000000000001")), "more than 12 decimal places"),
        (Price(unit="call", amount=D(1_000_000)), "amounts up to 99999999"),
        (Price(unit="call", amount=D(1), included=D("0.5")), "0.5 charged units are 0.5"),
        (Price(model="graduated", unit="call", tiers=(Tier(amount=D(1), flat=D("0.001")),)), "flat amount is whole"),
        (
            Price(model="graduated", unit="call", tiers=(Tier(up_to=D(3), amount=D("0.001")), Tier(amount=D(1)))),
            "cost 0.3",
        ),
        (Price(model="volume", unit="call", included=D(1), tiers=(Tier(amount=D(1)),)), "those that are included"),
    ],
)
def test_what_stripe_cannot_bill_the_same_is_refused(price: Price, says: str) -> None:
    with pytest.raises(Inexpressible, match=says):
        amounts_of(price, CALLS, SCALED_UNIT, "USD")


def test_packages_are_refused_where_stripe_counts_rounded_units() -> None:
    price = Price(model="package", unit="GB", size=D(GIB), amount=D(1))
    assert amounts_of(price, CALLS, SCALED_UNIT, "USD").divide_by == GIB
    with pytest.raises(Inexpressible, match="size of a package"):
        amounts_of(price, CALLS, D(GIB) / 1_000_000_000, "USD")


amount = st.decimals(0, 100, places=4)
bounds = st.lists(st.integers(1, 400), min_size=1, max_size=4, unique=True).map(sorted)


@st.composite
def prices(draw: st.DrawFn) -> Price:
    size = D(draw(st.sampled_from([1, 4, 10, 1000])))
    model = draw(st.sampled_from(["per_unit", "package", "graduated", "volume"]))
    included = D(0) if model == "package" else D(draw(st.sampled_from([0, 0, 1, 7, 100])))
    if model in ("per_unit", "package"):
        return Price(model=model, unit="u", size=size, amount=draw(amount), included=included)
    ends: list[int | None] = [*draw(bounds), None]
    cents = st.integers(0, 500).map(lambda number: D(number) / 100)
    steps = tuple(
        Tier(up_to=None if end is None else D(end), amount=draw(st.one_of(amount, cents)), flat=draw(cents))
        for end in ends
    )
    return Price(model=model, unit="u", size=size, included=included, tiers=steps)


@given(price=prices(), units=st.one_of(st.integers(0, 20), st.integers(0, 600_000)))
def test_stripe_bills_what_we_do(price: Price, units: int) -> None:
    try:
        amounts = amounts_of(price, CALLS, SCALED_UNIT, "USD")
    except Inexpressible:
        assume(False)

    ours = price_line(price, units, CALLS, "USD").amount

    assert D(stripe_bills(amounts, units)) / 100 == ours


@pytest.mark.parametrize("gigabytes", ["0.1", "4.9", "5", "5.2", "6", "17.3", "1000", "250000"])
def test_a_month_of_storage_loses_less_than_a_millionth_of_a_cent(default_catalog: Catalog, gigabytes: str) -> None:
    """Each of 744 hours is rounded down to billionths of a GB-month."""
    meter, price = default_catalog.meters["storage_bytes"], default_catalog.prices["storage_bytes"]
    unit = unit_of(default_catalog, meter)
    amounts = amounts_of(price, meter, unit, "USD")
    level = int(D(gigabytes) * GIB)
    hours = [(level + 7919 * hour) * 3600 for hour in range(MONTH_HOURS)]

    counted = sum(int(used // unit) for used in hours)

    lost = Fraction(sum(hours)) / Fraction(unit) - counted
    assert 0 <= lost < MONTH_HOURS
    assert lost * Fraction(2, 10**9) < Fraction(15, 10**7)  # cents: two for a billion of these units
    assert D(stripe_bills(amounts, counted)) / 100 == price_line(price, sum(hours), meter, "USD").amount


def test_six_gigabytes_for_a_month_in_numbers(default_catalog: Catalog) -> None:
    """The figures of docs/stripe.md."""
    meter, price = default_catalog.meters["storage_bytes"], default_catalog.prices["storage_bytes"]
    unit = unit_of(default_catalog, meter)
    hour = 6 * GIB * 3600
    assert (hour, int(hour // unit), int(hour // unit) * MONTH_HOURS) == (23_192_823_398_400, 8_219_178, 6_115_068_432)

    ours = (Fraction(hour * MONTH_HOURS) / Fraction(price.size) - 5) * 2
    theirs = Fraction(6_115_068_432 - 5_000_000_000, 10**9) * 2

    assert (f"{float(ours):.7f}", f"{float(theirs):.7f}") == ("2.2301370", "2.2301369")
    assert stripe_bills(amounts_of(price, meter, unit, "USD"), 6_115_068_432) == 2


def test_the_worst_case_of_a_month_of_storage_in_numbers(default_catalog: Catalog) -> None:
    """One byte-second less than the next unit in each hour: 0.0000015 cents less than was used, and never more."""
    meter, price = default_catalog.meters["storage_bytes"], default_catalog.prices["storage_bytes"]
    unit = unit_of(default_catalog, meter)
    hour = int(9_000_000 * unit) + int(unit)  # just below 9,000,001 units: about 6.6 GB

    units = [int(hour // unit)] * MONTH_HOURS

    assert set(units) == {9_000_000}
    assert sum(units) == 6_696_000_000  # 6.696 GB-months, 1.696 beyond what is included: 3.392 cents
    ours = Fraction(hour * MONTH_HOURS) / Fraction(price.size)
    assert 0 < (ours - Fraction(sum(units), 10**9)) * 2 < Fraction(15, 10**7)
    amounts = amounts_of(price, meter, unit, "USD")
    assert stripe_bills(amounts, sum(units)) == 3
    assert price_line(price, hour * MONTH_HOURS, meter, "USD").amount == D("0.03")


@given(
    hours=st.lists(st.integers(0, 5 * 10**12), min_size=1, max_size=MONTH_HOURS),
    amount=st.decimals(0, 1000, places=3),
    included=st.integers(0, 1000),
)
def test_what_is_lost_by_rounding_hours_down_is_bounded(hours: list[int], amount: Decimal, included: int) -> None:
    price = Price(unit="GB", size=D(GIB), amount=amount, included=D(included))
    unit = D(GIB).scaleb(-9)
    terms = amounts_of(price, CALLS, unit, "USD")
    counted = sum(int(used // unit) for used in hours)

    ours = max(Fraction(0), Fraction(sum(hours), GIB) - included) * Fraction(amount) * 100
    theirs = max(0, counted - included * 10**9) * Fraction(amount) * 100 / 10**9

    assert 0 <= ours - theirs <= len(hours) * Fraction(amount) * 100 / 10**9
    assert abs(D(stripe_bills(terms, counted)) / 100 - price_line(price, sum(hours), CALLS, "USD").amount) <= D("0.01")


def test_digits_are_written_without_an_exponent() -> None:
    assert plainly(D("0.000000002")) == "0.000000002"
    assert plainly(D("1E+3")) == "1000"
    assert plainly(D("0.500")) == "0.5"
    assert plainly(D(0)) == "0"
