"""The stand-in's own arithmetic, of amounts and billing periods, against figures by hand and plain fractions."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.stripe_sync.standin.periods import boundary, period_around
from metering.stripe_sync.standin.pricing import parts, share
from tests.factories.standin_billing import at, shown


def tier(up_to: int | None, unit: str | None = None, flat: str | None = None) -> dict[str, Any]:
    return {"up_to": up_to, "unit_amount_decimal": unit, "flat_amount_decimal": flat}


def tiered(mode: str, *tiers: dict[str, Any]) -> dict[str, Any]:
    return {"billing_scheme": "tiered", "tiers_mode": mode, "tiers": list(tiers)}


def per_unit(unit: str, divide_by: int | None = None, round: str = "up") -> dict[str, Any]:
    transform = {"divide_by": divide_by, "round": round} if divide_by else None
    return {"billing_scheme": "per_unit", "unit_amount_decimal": unit, "transform_quantity": transform}


def amounts(price: dict[str, Any], quantity: str) -> list[int]:
    return [part.amount for part in parts(price, Decimal(quantity))]


FONTS = (tier(5, "700"), tier(10, "650"), tier(None, "600"))
INCLUDED = (tier(1000, "0"), tier(5000, "0.5", "200"), tier(None, "0.25"))


class TestAmounts:
    @pytest.mark.parametrize(
        ("price", "quantity", "expected"),
        [
            (per_unit("2000"), "1", [2000]),
            (per_unit("0.05"), "30", [2]),  # 1.5 cents, Stripe's own example of rounding
            (per_unit("0.05"), "29", [1]),  # 1.45
            (per_unit("0.5"), "1", [1]),
            (per_unit("0.000000000001"), "0", [0]),
            (per_unit("3"), "2.5", [8]),  # 7.5
            (per_unit("3"), "-7", [0]),
            # 1,000 units a package
            (per_unit("500", 1000), "0", [0]),
            (per_unit("500", 1000), "1", [500]),
            (per_unit("500", 1000), "1000", [500]),
            (per_unit("500", 1000), "1000.5", [1000]),
            (per_unit("500", 1000, "down"), "1999", [500]),
            (per_unit("0.5", 1000), "1", [1]),
            # Stripe's own example of tiers: fonts at 7, 6.50 and 6 dollars
            (tiered("volume", *FONTS), "5", [3500]),
            (tiered("volume", *FONTS), "6", [3900]),
            (tiered("volume", *FONTS), "25", [15000]),
            (tiered("graduated", *FONTS), "5", [3500]),
            (tiered("graduated", *FONTS), "6", [3500, 650]),
            (tiered("graduated", *FONTS), "25", [3500, 3250, 9000]),
            # included units for nothing, then half a cent with 2 dollars once, then a quarter of a cent
            (tiered("graduated", *INCLUDED), "0", [0]),
            (tiered("graduated", *INCLUDED), "1000", [0]),
            (tiered("graduated", *INCLUDED), "1001", [0, 1, 200]),  # half a cent rounds up
            (tiered("graduated", *INCLUDED), "1003", [0, 2, 200]),  # 1.5
            (tiered("graduated", *INCLUDED), "6001", [0, 2000, 200, 250]),  # 1001 × 0.25 = 250.25
            (tiered("graduated", *INCLUDED), "1000.5", [0, 0, 200]),  # 0.25
            (tiered("volume", *INCLUDED), "1000", [0]),
            (tiered("volume", *INCLUDED), "1001", [501, 200]),  # 500.5
            # the first tier's flat amount is billed without usage too
            (tiered("graduated", tier(10, None, "900"), tier(None, "100")), "0", [900]),
            (tiered("graduated", tier(10, None, "900"), tier(None, "100")), "12", [900, 200]),
            (tiered("volume", tier(10, None, "900"), tier(None, "100")), "0", [900]),
            (tiered("volume", tier(10, None, "900"), tier(None, "100")), "12", [1200]),
        ],
    )
    def test_a_quantity_costs_what_stripe_takes_for_it(self, price, quantity, expected):
        assert amounts(price, quantity) == expected

    @given(
        st.lists(st.tuples(st.integers(1, 20), st.integers(0, 40), st.integers(0, 30)), min_size=1, max_size=4),
        st.integers(0, 60),
    )
    def test_graduated_tiers_cost_what_each_unit_costs_alone(self, shapes, quantity):
        bounds = [sum(width for width, _, _ in shapes[: place + 1]) for place in range(len(shapes))]
        tiers = [
            tier(None if place == len(shapes) - 1 else bounds[place], str(Decimal(unit) / 8), str(flat))
            for place, (_, unit, flat) in enumerate(shapes)
        ]

        exact = sum(
            (Fraction(part.exact) for part in parts(tiered("graduated", *tiers), Decimal(quantity))), Fraction()
        )

        reached = [
            next((n for n, bound in enumerate(bounds[:-1]) if unit <= bound), len(bounds) - 1)
            for unit in range(1, quantity + 1)
        ]
        by_unit = sum((Fraction(shapes[n][1], 8) for n in reached), Fraction())
        assert exact == by_unit + sum(shapes[n][2] for n in {0, *reached})

    @pytest.mark.parametrize(
        ("days", "expected"),
        [(31, 2000), (15, 968), (16, 1032), (0, 0)],  # 967.74…, 1032.25…
    )
    def test_a_part_of_a_period_costs_its_fraction(self, days, expected):
        assert share(per_unit("2000"), Decimal(1), days, 31) == expected


class TestPeriods:
    def test_a_month_that_is_too_short_ends_on_its_last_day_and_the_next_is_on_the_anchors_day_again(self):
        anchor = at("2027-01-31T09:30")

        boundaries = [shown(boundary(anchor, "month", 1, number)) for number in range(-2, 6)]

        assert boundaries == [
            "2026-11-30T09:30",
            "2026-12-31T09:30",
            "2027-01-31T09:30",
            "2027-02-28T09:30",
            "2027-03-31T09:30",
            "2027-04-30T09:30",
            "2027-05-31T09:30",
            "2027-06-30T09:30",
        ]

    @pytest.mark.parametrize(
        ("anchor", "interval", "count", "moment", "expected"),
        [
            ("2028-01-30", "month", 1, "2028-02-29", ("2028-02-29T00:00", "2028-03-30T00:00")),
            ("2027-01-31", "month", 1, "2027-02-27", ("2027-01-31T00:00", "2027-02-28T00:00")),
            ("2027-01-31", "month", 1, "2027-02-28", ("2027-02-28T00:00", "2027-03-31T00:00")),
            ("2027-11-15", "month", 3, "2028-02-14", ("2027-11-15T00:00", "2028-02-15T00:00")),
            ("2028-02-29", "year", 1, "2029-03-01", ("2029-02-28T00:00", "2030-02-28T00:00")),
            ("2028-02-29", "year", 1, "2032-02-29", ("2032-02-29T00:00", "2033-02-28T00:00")),
            ("2027-01-01", "week", 2, "2027-01-20", ("2027-01-15T00:00", "2027-01-29T00:00")),
            ("2027-01-01", "day", 1, "2027-01-01T23:59", ("2027-01-01T00:00", "2027-01-02T00:00")),
        ],
    )
    def test_the_period_around_a_moment(self, anchor, interval, count, moment, expected):
        start, end = period_around(at(anchor), interval, count, at(moment))

        assert (shown(start), shown(end)) == expected

    @given(st.integers(at("2020-01-01"), at("2040-01-01")), st.integers(1, 12), st.integers(0, 40 * 366 * 86_400))
    def test_periods_of_months_follow_each_other_without_gap_and_keep_the_anchors_day(self, anchor, count, later):
        start, end = period_around(anchor, "month", count, anchor + later)

        assert start <= anchor + later < end
        assert period_around(anchor, "month", count, end)[0] == end
        day, began = datetime.fromtimestamp(anchor, UTC), datetime.fromtimestamp(start, UTC)
        assert began.day == min(day.day, monthrange(began.year, began.month)[1])
        assert began.time() == day.time()
