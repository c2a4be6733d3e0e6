"""JSON in which every number keeps all its digits: fractions are `Decimal`, whole numbers of any size `int`."""

import json
from contextlib import suppress
from decimal import Decimal
from typing import Any, NoReturn

import orjson

MAX_ORJSON_INTEGER = 2**63 - 1
MAX_DEPTH = 100
MAX_DIGITS = 1_000


def parse(text: bytes | str) -> Any:
    """Raises ValueError for what is no JSON (NaN and Infinity are none), nested too deeply, or of too many digits."""
    with suppress(orjson.JSONDecodeError):  # the other reader says what is wrong, or takes what no double holds
        value = orjson.loads(text)
        if not _scan(value):
            return value  # several times as fast, and as exact where there is nothing to round
    decoded = text if isinstance(text, str) else text.decode()
    try:
        value = json.loads(decoded, parse_float=_bounded, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _scan(value)
    return value


def write(value: Any, *, sort_keys: bool = False) -> bytes:
    """The shortest text of a value as `parse` returns it. Raises TypeError for what is no JSON."""
    option = orjson.OPT_SORT_KEYS if sort_keys else 0
    try:
        return orjson.dumps(value, default=_exact_number, option=option)
    except TypeError:
        return orjson.dumps(large_integers_apart(value), default=_exact_number, option=option)


def _scan(value: Any) -> bool:
    """Whether a number was read into a double: a fraction, or an integer of more digits than 64 bits hold.

    Raises ValueError for what is nested too deeply.
    """
    found, level = False, [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for part in level:
            kind = type(part)
            if kind is float:
                found = True
            elif kind is dict:
                below += part.values()
            elif kind is list:
                below += part
        if not below:
            return found
        level = below
    raise ValueError("it is nested too deeply")


def _bounded(text: str) -> Decimal:
    """Raises ValueError for a number that takes more digits to write out than anybody reads."""
    return _checked(Decimal(text))


def _checked(number: Decimal) -> Decimal:
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -MAX_DIGITS or number.adjusted() > MAX_DIGITS:
        raise ValueError(f"a number in it has more than {MAX_DIGITS} digits")
    return number


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _exact_number(value: object) -> orjson.Fragment:
    if isinstance(value, Decimal) and value.is_finite():
        try:
            return orjson.Fragment(str(_checked(value)))
        except ValueError as error:
            raise TypeError(str(error)) from None
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
