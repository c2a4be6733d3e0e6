"""What an event counts as, by the aggregation of its meter."""

from decimal import Decimal
from typing import Any

import pytest

from metering.errors import BadQuantity
from metering.intake.event import UsageEvent, group_of, make_event
from tests.factories.meters import LEVELS, OBSERVED, meter


def event(key: str, quantity: object = 1, **more: Any) -> UsageEvent:
    return make_event(meter(key), customer="acme", quantity=quantity, source="test", id="1", admitted=1, **more)


@pytest.mark.parametrize("key", OBSERVED)
def test_what_is_observed_may_be_below_zero(key: str) -> None:
    found = event(key, "-3")

    assert (found.op, found.units) == ("observe", -3 * 10 ** meter(key).scale)


def test_what_is_added_up_may_not_be_below_zero() -> None:
    with pytest.raises(BadQuantity, match="is negative"):
        event("sum", "-0.001")


@pytest.mark.parametrize("key", LEVELS)
def test_a_level_may_fall_and_is_never_set_below_zero(key: str) -> None:
    assert event(key, -3).op == "change"
    with pytest.raises(BadQuantity, match="is negative"):
        event(key, -3, outright=True)


def test_an_event_counts_as_one_whatever_quantity_it_states() -> None:
    assert event("count", -7).units == 1
    assert event("unique_count", None, properties={"user": {"id": "ada"}}).units == 1


@pytest.mark.parametrize("value", ["ada", "", 42, -1, 10**15, 1.5, Decimal("0.1000")])
def test_a_value_to_be_told_apart_is_a_text_or_a_number_and_stays_in_the_properties(value: object) -> None:
    found = event("unique_count", properties={"user": {"id": value}})

    assert (found.op, found.units) == ("observe", 1)
    assert str(value) in found.properties


@pytest.mark.parametrize(
    "properties",
    [
        *(None, {}, {"user": "ada"}, {"id": "ada"}, {"user": {"id": None}}, {"user": {"id": True}}),
        *({"user": {"id": ["ada"]}}, {"user": {"id": {}}}, {"user": {"id": float("nan")}}),
        {"user": {"id": Decimal("Infinity")}},
    ],
)
def test_an_event_without_such_a_value_is_refused_and_told_where_it_is_looked_for(properties: Any) -> None:
    with pytest.raises(BadQuantity, match=r"is no text and no number at \$\.user\.id") as refused:
        event("unique_count", properties=properties)

    assert refused.value.facts["meter"] == "unique_count"


def test_a_group_holds_values_as_text_and_nothing_as_an_empty_one() -> None:
    properties = {"model": True, "place": {"region": None}}

    assert group_of(meter("sum"), properties) == '{"model":"true","region":""}'
    assert group_of(meter("sum"), {"place": {"region": Decimal("1.50")}}) == '{"model":"","region":"1.50"}'
