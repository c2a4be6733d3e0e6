"""A catalog with a meter of each aggregation, and of each that a level may have."""

from typing import Any

from metering.catalog import Catalog, Meter
from metering.catalog.loader import parse_catalog

GROUP_BY = {"model": "$.model", "region": "$.place.region"}
OBSERVED = ("max", "min", "avg", "latest")
LEVELS = ("level_latest", "level_max", "level_time_weighted")

METERS: dict[str, dict[str, Any]] = {
    "sum": {"aggregation": "sum", "scale": 3, "group_by": GROUP_BY},
    "count": {"aggregation": "count", "group_by": GROUP_BY},
    "max": {"aggregation": "max", "scale": 2, "group_by": GROUP_BY},
    "min": {"aggregation": "min", "group_by": GROUP_BY},
    "avg": {"aggregation": "avg", "scale": 1, "group_by": GROUP_BY},
    "latest": {"aggregation": "latest", "scale": 2, "group_by": GROUP_BY},
    "unique_count": {"aggregation": "unique_count", "value_property": "$.user.id", "group_by": GROUP_BY},
    "level_latest": {"aggregation": "latest", "kind": "level", "bills_as": "time_weighted"},
    "level_max": {"aggregation": "max", "kind": "level", "bills_as": "maximum"},
    "level_time_weighted": {"aggregation": "time_weighted", "kind": "level", "bills_as": "time_weighted", "scale": 1},
}


def meter(key: str, **more: Any) -> Meter:
    return Meter(key=key, name=key.title(), unit="unit", **METERS.get(key, {}) | more)


def catalog() -> Catalog:
    raw = {
        "version": "test",
        "currency": "USD",
        "meters": {key: {"name": key.title(), "unit": "unit", **rest} for key, rest in METERS.items()},
        "plans": {"free": {"name": "Free"}},
    }
    return parse_catalog(raw, "test")
