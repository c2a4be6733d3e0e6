"""JSON in which every number keeps all its digits: fractions are `Decimal`, whole numbers of any size `int`."""

import json
from contextlib import suppress
from decimal import Decimal
from typing import Any, NoReturn

import orjson

MAX_ORJSON_INTEGER = 2**63 - 1


def parse(text: bytes | str) -> Any:
    """Raises ValueError for what is no JSON (NaN and Infinity are none), or nested too deeply."""
    with suppress(orjson.JSONDecodeError):  # the other reader says what is wrong, or takes what no double holds
        value = orjson.loads(text)
        if not _has_fraction(value):
            return value  # several times as fast, and as exact where there is nothing to round
    decoded = text if isinstance(text, str) else text.decode()
    try:
        return json.loads(decoded, parse_float=Decimal, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def write(value: Any, *, sort_keys: bool = False) -> bytes:
    """The shortest text of a value as `parse` returns it. Raises TypeError for what is no JSON."""
    option = orjson.OPT_SORT_KEYS if sort_keys else 0
    try:
        return orjson.dumps(value, default=_exact_number, option=option)
    except TypeError:
        return orjson.dumps(large_integers_apart(value), default=_exact_number, option=option)


def _has_fraction(value: Any) -> bool:
    """Whether a number was read into a double: a fraction, or an integer of more digits than 64 bits hold."""
    waiting = [[value]]
    while waiting:
        part: Any = waiting.pop()
        for inner in part.values() if type(part) is dict else part:
            kind = type(inner)
            if kind is float:
                return True
            if kind is dict or kind is list:
                waiting.append(inner)
    return False


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _exact_number(value: object) -> orjson.Fragment:
    if isinstance(value, Decimal) and value.is_finite():
        return orjson.Fragment(str(value))
    raise TypeError(f"{type(value).__name__} is not JSON")


def large_integers_apart(value: Any) -> Any:
    """Whole numbers that the writer takes for too large, as decimals, which it writes with all their digits."""
    if isinstance(value, dict):
        return {key: large_integers_apart(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [large_integers_apart(part) for part in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > MAX_ORJSON_INTEGER:
        return Decimal(value)
    return value
