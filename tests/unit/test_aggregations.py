"""What is said of an aggregation, once, for everybody who asks."""

from decimal import Decimal
from typing import get_args

import pytest
from pydantic import ValidationError

from metering.catalog.aggregations import AGGREGATIONS, SUMMED, AggregationName, LevelTotals, Totals
from tests.factories.meters import METERS, meter

TOTALS = Totals(units=-1_005, events=4, minimum=-2_000, maximum=700, latest=5, distinct=3)
LEVEL = LevelTotals(closing=12, peak=40, weighed=25, micros=10)


def test_every_name_that_a_catalog_may_hold_has_its_answers() -> None:
    assert set(AGGREGATIONS) == set(get_args(AggregationName))
    assert SUMMED == ("sum", "count")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sum", "-10.05"),
        ("max", "7.00"),
        ("min", "-20.00"),
        ("avg", "-2.51250000"),
        ("latest", "0.05"),
        ("unique_count", "3"),
    ],
)
def test_the_value_of_usage_is_exact_in_the_unit_of_the_meter(name: AggregationName, value: str) -> None:
    assert str(AGGREGATIONS[name].value(TOTALS, scale=2)) == value


@pytest.mark.parametrize(("name", "value"), [("latest", "1.2"), ("max", "4.0"), ("time_weighted", "0.2500000")])
def test_the_value_of_a_level_is_exact_in_the_unit_of_the_meter(name: AggregationName, value: str) -> None:
    assert str(AGGREGATIONS[name].level_value(LEVEL, scale=1)) == value


@pytest.mark.parametrize(
    ("units", "events", "mean"),
    [
        (1, 3, "0.333333"),
        (2, 3, "0.666667"),
        (-2, 3, "-0.666667"),
        (1, 2_000_000, "0.000000"),  # half of the last place: to even
        (3, 2_000_000, "0.000002"),
        (-1, 2_000_000, "0.000000"),
        (-3, 2_000_000, "-0.000002"),
        (10**29 + 1, 1, f"{10**29 + 1}.000000"),
    ],
)
def test_a_mean_is_rounded_half_to_even_at_six_places_more_than_the_meter_has(
    units: int, events: int, mean: str
) -> None:
    totals = Totals(units=units, events=events, minimum=0, maximum=0, latest=None, distinct=0)

    assert AGGREGATIONS["avg"].value(totals, scale=0) == Decimal(mean)


@pytest.mark.parametrize("key", METERS)
def test_a_meter_knows_whether_it_is_added_up_or_observed(key: str) -> None:
    assert meter(key).observes == (key in ("max", "min", "avg", "latest", "unique_count"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"aggregation": "count", "scale": 2},
        {"aggregation": "unique_count", "scale": 1},
        {"aggregation": "time_weighted"},
        {"aggregation": "avg", "kind": "level", "bills_as": "maximum"},
        {"aggregation": "sum", "group_by": {"subject": "$.subject"}},
    ],
)
def test_a_meter_that_contradicts_itself_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        meter("odd", **wrong)
