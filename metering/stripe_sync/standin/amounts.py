"""How a price says what it takes: one amount per unit, or tiers, as parameters and as a price shows them.

Amounts are in the currency's minor unit. Source: Stripe's API reference, "Prices", and its page "Decimal amounts".
"""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any

from metering.stripe_sync.standin.errors import ApiError, missing_parameter
from metering.stripe_sync.standin.params import Raw
from metering.stripe_sync.standin.rules import Choice, Integer, Many, Money, Record, Rule
from metering.stripe_sync.standin.store import Document


class _UpTo:
    """A tier's upper bound: a whole number above 0, or "inf", which reads as None."""

    def read(self, raw: Raw, name: str) -> int | None:
        return None if raw == "inf" else Integer(1).read(raw, name)


_AMOUNT = Integer(0, 99_999_999)
_TIER = Record(
    {
        "flat_amount": _AMOUNT,
        "flat_amount_decimal": Money(),
        "unit_amount": _AMOUNT,
        "unit_amount_decimal": Money(),
        "up_to": _UpTo(),
    },
    required=("up_to",),
)
AMOUNT_PARAMETERS: dict[str, Rule] = {
    "billing_scheme": Choice(("per_unit", "tiered")),
    "tiers": Many(_TIER),
    "tiers_mode": Choice(("graduated", "volume")),
    "transform_quantity": Record(
        {"divide_by": Integer(1), "round": Choice(("down", "up"))}, required=("divide_by", "round")
    ),
    "unit_amount": _AMOUNT,
    "unit_amount_decimal": Money(),
}


def amounts(params: dict[str, Any]) -> Document:
    """The fields of a new price that say what it takes, checked against each other."""
    return _tiered(params) if params.get("billing_scheme") == "tiered" else _per_unit(params)


def _per_unit(params: dict[str, Any]) -> Document:
    for name in ("tiers", "tiers_mode"):
        if name in params:
            raise ApiError(f"You can only specify `{name}` when `billing_scheme` is `tiered`.", param=name)
    unit = _amount(params, "unit_amount", "")
    if unit["unit_amount_decimal"] is None:
        raise missing_parameter("unit_amount")
    return {
        "billing_scheme": "per_unit",
        "tiers_mode": None,
        "transform_quantity": params.get("transform_quantity"),
        **unit,
    }


def _tiered(params: dict[str, Any]) -> Document:
    for name in ("unit_amount", "unit_amount_decimal", "transform_quantity"):
        if name in params:
            raise ApiError(f"You cannot specify `{name}` when `billing_scheme` is `tiered`.", param=name)
    for name in ("tiers", "tiers_mode"):
        if not params.get(name):
            raise missing_parameter(name)
    _check_bounds([tier["up_to"] for tier in params["tiers"]])
    return {
        "billing_scheme": "tiered",
        "tiers": [_tier(tier, f"tiers[{place}]") for place, tier in enumerate(params["tiers"])],
        "tiers_mode": params["tiers_mode"],
        "transform_quantity": None,
        "unit_amount": None,
        "unit_amount_decimal": None,
    }


def _check_bounds(bounds: list[int | None]) -> None:
    *bounded, last = bounds
    if last is not None:
        raise ApiError("The last tier must have `up_to` set to `inf`.", param="tiers")
    finite = [bound for bound in bounded if bound is not None]
    if len(finite) < len(bounded) or any(lower >= upper for lower, upper in pairwise(finite)):
        raise ApiError("Tiers must be in ascending order of `up_to`, and only the last one `inf`.", param="tiers")


def _tier(tier: dict[str, Any], where: str) -> Document:
    flat, unit = _amount(tier, "flat_amount", where), _amount(tier, "unit_amount", where)
    if flat["flat_amount_decimal"] is not None and flat["flat_amount"] is None:
        raise ApiError("A flat amount must be a whole number.", param=f"{where}[flat_amount_decimal]")
    if flat["flat_amount_decimal"] is None and unit["unit_amount_decimal"] is None:
        raise ApiError("A tier needs `unit_amount` or `flat_amount`.", param=where)
    return {**flat, **unit, "up_to": tier["up_to"]}


def _amount(params: dict[str, Any], name: str, where: str) -> Document:
    """An amount in both of its forms; the whole one is None where there is a fraction."""
    exact = f"{name}_decimal"
    if name in params and exact in params:
        raise ApiError(f"You may only specify one of `{name}`, `{exact}`.", param=f"{where}[{name}]" if where else name)
    amount = params.get(exact, params.get(name))
    if amount is None:
        return {name: None, exact: None}
    number = Decimal(amount)
    whole = number == number.to_integral_value()
    plain = format(number, "f")
    return {
        name: int(number) if whole else None,
        exact: str(int(number)) if whole else plain.rstrip("0"),
    }
