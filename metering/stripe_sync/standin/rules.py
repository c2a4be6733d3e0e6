"""What a parameter may be. Each rule reads one raw value and answers the value to work with, or refuses it.

Refusals happen before an endpoint starts to run, so Stripe keeps no idempotent result of them.
Source of names, types and lengths: Stripe's API reference, which the docstrings of `stripe.params` repeat.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

from metering.stripe_sync.standin.errors import ApiError, missing_parameter, unknown_parameters
from metering.stripe_sync.standin.params import Raw


class Rule(Protocol):
    def read(self, raw: Raw, name: str) -> Any: ...


@dataclass(frozen=True)
class Text:
    """A string. Where `unset` is allowed, an empty one means "remove the value" and reads as None."""

    max_length: int = 5000
    unset: bool = False
    pattern: str | None = None

    def read(self, raw: Raw, name: str) -> str | None:
        if not isinstance(raw, str):
            raise ApiError("Invalid string", param=name)
        if raw == "":
            if self.unset:
                return None
            raise _empty(name)
        if len(raw) > self.max_length:
            raise ApiError(f"Invalid string: {raw[:20]}...; must be at most {self.max_length} characters", param=name)
        if self.pattern and not re.fullmatch(self.pattern, raw):
            raise ApiError(f"Invalid {name}: {raw}", param=name)
        return raw


@dataclass(frozen=True)
class Integer:
    minimum: int | None = None
    maximum: int | None = None

    def read(self, raw: Raw, name: str) -> int:
        if not isinstance(raw, str) or not re.fullmatch(r"[+-]?[0-9]{1,18}", raw):
            raise ApiError(f"Invalid integer: {raw}", code="parameter_invalid_integer", param=name)
        number = int(raw)
        if self.minimum is not None and number < self.minimum:
            raise _out_of_range(name, f"greater than or equal to {self.minimum}")
        if self.maximum is not None and number > self.maximum:
            raise _out_of_range(name, f"less than or equal to {self.maximum}")
        return number


@dataclass(frozen=True)
class Money:
    """A decimal number of the currency's minor unit, with at most 12 places, without exponent."""

    def read(self, raw: Raw, name: str) -> Decimal:
        if not isinstance(raw, str) or not re.fullmatch(r"[+-]?[0-9]{1,18}(\.[0-9]{1,12})?", raw):
            raise ApiError(f"Invalid decimal: {raw}; must contain at maximum twelve decimal places.", param=name)
        number = Decimal(raw)
        if number < 0:
            raise _out_of_range(name, "greater than or equal to 0")
        return number


@dataclass(frozen=True)
class Unserved:
    """A parameter that Stripe knows and that nothing here would obey: refused, rather than accepted for show."""

    def read(self, raw: Raw, name: str) -> None:
        raise ApiError(f"The stand-in does not serve the parameter {name}.", param=name)


@dataclass(frozen=True)
class Moment:
    """Unix seconds, or one of the words for a time. Where `unset` is allowed, an empty one reads as None."""

    words: tuple[str, ...] = ()
    unset: bool = False

    def read(self, raw: Raw, name: str) -> int | str | None:
        if raw == "" and self.unset:
            return None
        return raw if isinstance(raw, str) and raw in self.words else Integer(0).read(raw, name)


@dataclass(frozen=True)
class Flag:
    def read(self, raw: Raw, name: str) -> bool:
        if raw not in ("true", "false"):
            raise ApiError(f"Invalid boolean: {raw}", param=name)
        return raw == "true"


@dataclass(frozen=True)
class Choice:
    values: tuple[str, ...]
    unset: bool = False

    def read(self, raw: Raw, name: str) -> str | None:
        if raw == "" and self.unset:
            return None
        if not isinstance(raw, str) or raw not in self.values:
            allowed = ", ".join(self.values[:-1]) + f" or {self.values[-1]}" if len(self.values) > 1 else self.values[0]
            raise ApiError(f"Invalid {name}: must be one of {allowed}", param=name)
        return raw


@dataclass(frozen=True)
class Strings:
    """A hash of strings to strings, such as metadata. Empty values are kept: what they mean is the noun's business."""

    max_keys: int = 50
    max_key_length: int = 40
    max_value_length: int = 500
    unset: bool = False

    def read(self, raw: Raw, name: str) -> dict[str, str]:
        if raw == "" and self.unset:
            return {}
        if not isinstance(raw, dict):
            raise ApiError("Invalid hash", param=name)
        if len(raw) > self.max_keys:
            raise ApiError(f"{name} can have at most {self.max_keys} keys", param=name)
        read: dict[str, str] = {}
        for key, value in raw.items():
            if not isinstance(value, str):
                raise ApiError("Invalid string", param=f"{name}[{key}]")
            if len(key) > self.max_key_length or len(value) > self.max_value_length:
                raise ApiError(
                    f"{name} keys can have up to {self.max_key_length} characters, "
                    f"values up to {self.max_value_length}",
                    param=f"{name}[{key}]",
                )
            read[key] = value
        return read


@dataclass(frozen=True)
class Many:
    item: Rule
    unset: bool = False

    def read(self, raw: Raw, name: str) -> list[Any] | None:
        if raw == "" and self.unset:
            return None
        if not isinstance(raw, dict) or not all(key.isdecimal() for key in raw):
            raise ApiError("Invalid array", param=name)
        return [self.item.read(raw[key], f"{name}[{key}]") for key in sorted(raw, key=int)]


@dataclass(frozen=True)
class Record:
    """A hash with known keys. At the top its name is empty and its keys are the parameters themselves."""

    fields: Mapping[str, Rule] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    unset: bool = False

    def read(self, raw: Raw, name: str) -> dict[str, Any] | None:
        if raw == "" and self.unset:
            return None
        if not isinstance(raw, dict):
            raise ApiError("Invalid object", param=name)
        if unknown := [_inner(name, key) for key in raw if key not in self.fields]:
            raise unknown_parameters(unknown)
        for key in self.required:
            if key not in raw:
                raise missing_parameter(_inner(name, key))
        return {key: self.fields[key].read(value, _inner(name, key)) for key, value in raw.items()}


@dataclass(frozen=True)
class Either:
    """A plain value or a hash, such as `created=1` and `created[gte]=1`."""

    plain: Rule
    record: Record

    def read(self, raw: Raw, name: str) -> Any:
        return (self.record if isinstance(raw, dict) else self.plain).read(raw, name)


EXPAND = Many(Text())


def unserved(*names: str) -> dict[str, Rule]:
    return dict.fromkeys(names, Unserved())


def parameters(fields: Mapping[str, Rule] | None = None, required: tuple[str, ...] = ()) -> Record:
    """The parameters of an endpoint; `expand` is one of each (Stripe's page "Expanding responses")."""
    return Record({**(fields or {}), "expand": EXPAND}, required)


def _inner(name: str, key: str) -> str:
    return f"{name}[{key}]" if name else key


def _out_of_range(name: str, limit: str) -> ApiError:
    return ApiError(f"This value must be {limit}.", code="parameter_invalid_integer", param=name)


def _empty(name: str) -> ApiError:
    return ApiError(
        f"You passed an empty string for '{name}'. We assume empty values are an attempt to unset a parameter; "
        f"however '{name}' cannot be unset. You should remove '{name}' from your request or supply a non-empty value.",
        code="parameter_invalid_empty",
        param=name,
    )
