"""Reads a catalog file and checks it, down to the path of what is wrong in it."""

import tomllib
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from metering.catalog.schema import Catalog, Meter
from metering.errors import BadQuantity, ConfigurationError


def load_catalog(path: Path | None = None) -> Catalog:
    """The catalog from `path`, or the default one.

    Raises:
        ConfigurationError: names the file, the path in it and what is wrong there, one line each.
    """
    source = str(path or "metering/catalog/default.toml")
    try:
        text = path.read_text("utf-8") if path else _default_text()
        raw = tomllib.loads(text, parse_float=Decimal)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"The catalog {source} cannot be read: {error}") from None
    return parse_catalog(raw, source)


def parse_catalog(raw: dict[str, Any], source: str) -> Catalog:
    """A checked catalog from parsed TOML. Raises ConfigurationError."""
    try:
        catalog = Catalog.model_validate(_with_keys(raw))
    except ValidationError as error:
        faults = [_fault(fault) for fault in error.errors(include_url=False, include_input=False)]
    else:
        faults = list(_cross_check(catalog))
        if not faults:
            return catalog
    raise ConfigurationError("\n".join([f"The catalog {source} is wrong:", *(f"  {line}" for line in faults)]))


def _default_text() -> str:
    return resources.files("metering.catalog").joinpath("default.toml").read_text("utf-8")


def _with_keys(raw: dict[str, Any]) -> dict[str, Any]:
    """Meters and plans know their own key; a meter's event type is its key unless it says otherwise."""
    filled = dict(raw)
    for kind in ("meters", "plans"):
        table = filled.get(kind)
        if isinstance(table, dict):
            filled[kind] = {key: _with_key(kind, key, entry) for key, entry in table.items()}
    return filled


def _with_key(kind: str, key: str, entry: Any) -> Any:
    if not isinstance(entry, dict):
        return entry
    own = {"key": key, "event_type": key} if kind == "meters" else {"key": key}
    return own | entry


def _fault(fault: Any) -> str:
    path = ".".join(str(part) for part in fault["loc"] if part != "[key]")
    return f"{path or '(top level)'}: {fault['msg'].removeprefix('Value error, ')}"


def _cross_check(catalog: Catalog) -> list[str]:
    """What no single table can see: names that point nowhere, limits that their meter cannot hold."""
    faults = [f"prices.{key}: there is no such meter" for key in catalog.prices if key not in catalog.meters]
    for plan in catalog.plans.values():
        for key in plan.prices:
            if key not in catalog.meters:
                faults.append(f"plans.{plan.key}.prices.{key}: there is no such meter")
        for key, limit in plan.limits.items():
            problem = _limit_problem(catalog.meters.get(key), limit.value)
            if problem:
                faults.append(f"plans.{plan.key}.limits.{key}: {problem}")
    return faults


def _limit_problem(meter: Meter | None, value: Decimal) -> str | None:
    if meter is None:
        return "there is no such meter"
    if not meter.counts_live:
        return f'a meter aggregated as "{meter.aggregation}" cannot be limited'
    try:
        meter.to_units(value)
    except BadQuantity as error:
        return error.message
    return None
