"""Which plans cost nothing, told by hand: who is on one needs no subscription."""

import pytest

from metering.billing.free import free_plans, free_uses
from metering.catalog import Catalog, Limit, Price, load_catalog

CATALOG = load_catalog()


def free_with(**limits: Limit) -> Catalog:
    free = CATALOG.plans["free"]
    changed = free.model_copy(update={"limits": {**free.limits, **limits}})
    return CATALOG.model_copy(update={"plans": {"free": changed}})


def without(meter: str) -> Catalog:
    free = CATALOG.plans["free"]
    limits = {key: limit for key, limit in free.limits.items() if key != meter}
    return CATALOG.model_copy(update={"plans": {"free": free.model_copy(update={"limits": limits})}})


def test_the_free_plan_of_the_default_catalog_alone() -> None:
    assert free_plans(CATALOG) == ["free"]


@pytest.mark.parametrize(
    ("catalog", "free"),
    [
        (free_with(messages=Limit(value=1_000)), ["free"]),
        (free_with(messages=Limit(value=1_003)), []),  # three beyond what is included, at 0.002: a cent
        (free_with(messages=Limit(value=100, mode="soft")), []),
        # 5 GB-months are included; 5 GiB kept for 31 days are 5.1 of them.
        (free_with(storage_bytes=Limit(value=4 * 1024**3)), ["free"]),
        (free_with(storage_bytes=Limit(value=6 * 1024**3)), []),
        (free_with(seats=Limit(value=2)), []),
        (without("tokens"), []),
    ],
)
def test_a_limit_must_hold_everything_within_what_is_included(catalog: Catalog, free: list[str]) -> None:
    assert free_plans(catalog) == free


def with_price(price: Price) -> Catalog:
    """Tokens, of which the free plan allows 10,000, at this price; everything else costs nothing."""
    catalog = CATALOG.model_copy(update={"prices": {}})
    free = CATALOG.plans["free"].model_copy(update={"prices": {"tokens": price}})
    return catalog.model_copy(update={"plans": {"free": free}})


@pytest.mark.parametrize(
    ("price", "free"),
    [
        ({"amount": "0"}, ["free"]),
        ({"amount": "0.01", "included": 10_000}, ["free"]),
        # 5,000 cost $50, and the 10,000 that are the limit nothing.
        ({"model": "volume", "tiers": [{"up_to": 5_000, "amount": "0.01"}, {"amount": "0"}]}, []),
        ({"model": "graduated", "tiers": [{"up_to": 10_000, "amount": "0"}, {"amount": "1"}]}, ["free"]),
        ({"model": "graduated", "tiers": [{"up_to": 10_000, "amount": "0", "flat": "1"}, {"amount": "1"}]}, []),
    ],
)
def test_nothing_before_the_limit_costs_something(price: dict[str, object], free: list[str]) -> None:
    assert free_plans(with_price(Price.model_validate({"unit": "token", **price}))) == free


def test_what_nobody_limits_is_free_where_it_has_no_price() -> None:
    catalog = with_price(Price(unit="token"))
    unlimited = catalog.plans["free"].model_copy(update={"limits": {}})
    assert free_plans(catalog.model_copy(update={"plans": {"free": unlimited}})) == ["free"]


def test_up_to_where_a_period_costs_nothing() -> None:
    uses = free_uses(CATALOG)
    assert uses.keys() == {"free"}
    assert uses["free"].keys() == CATALOG.meters.keys()
    assert (uses["free"]["messages"], uses["free"]["compute_seconds"]) == (100, 60_000_000)


def test_a_fee_is_a_charge() -> None:
    plan = CATALOG.plans["free"].model_copy(update={"base_fee": CATALOG.plans["pro"].base_fee})
    assert free_plans(CATALOG.model_copy(update={"plans": {"free": plan}})) == []
