"""Which plans cost nothing, told by hand: who is on one needs no subscription."""

import pytest

from metering.billing.free import plans_that_cost_nothing
from metering.catalog import Catalog, Limit, load_catalog

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
    assert plans_that_cost_nothing(CATALOG) == ["free"]


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
    assert plans_that_cost_nothing(catalog) == free


def test_a_fee_is_a_charge() -> None:
    plan = CATALOG.plans["free"].model_copy(update={"base_fee": CATALOG.plans["pro"].base_fee})
    assert plans_that_cost_nothing(CATALOG.model_copy(update={"plans": {"free": plan}})) == []
