"""What is wrong with a field, as a sentence that goes on from its name and says what was expected. Pure.

The one place where what pydantic found is put into words. Each reads after the name of the field: "limit: must be a
whole number, not 'many'".
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

INSTANT = "must be a time with its offset, such as 2026-01-31T12:00:00Z"

KINDS = {
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "decimal_type": "must be a number",
    "decimal_parsing": "must be a number",
    "is_instance_of": "must be a number",  # so it says of Decimal where types are taken strictly
    "quantity": "must be a number or a decimal string",
    "list_type": "must be an array",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "datetime_type": INSTANT,
    "datetime_parsing": INSTANT,
    "datetime_from_date_parsing": INSTANT,
    "timezone_aware": INSTANT,
}
"""What is no value of the type that is expected."""

BOUNDS = {
    "missing": "is missing",
    "extra_forbidden": "is not taken here",
    "literal_error": "must be {expected}",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must have at least {min_length:,} characters",
    "string_too_long": "must have at most {max_length:,} characters",
    "too_short": "must hold at least {min_length:,} entries",
    "too_long": "must hold at most {max_length:,} entries",
    "string_pattern_mismatch": "must match the pattern {pattern}",
    "decimal_max_places": "must have at most {decimal_places} decimal places",
}
"""What lies outside of the bounds, and what must stand there or must not; with pydantic's facts of the case."""

SHORT = 40
"""Characters of what was sent that are told back."""

JSON_TYPES: tuple[tuple[Callable[[Any], bool], str], ...] = (
    (lambda value: value is None, "null"),
    (lambda value: isinstance(value, bool), "a boolean"),
    (lambda value: isinstance(value, str), "a string"),
    (lambda value: isinstance(value, list), "an array"),
    (lambda value: isinstance(value, Mapping), "an object"),
    (lambda value: True, "a number"),
)


def complaint(fault: Mapping[str, Any]) -> str:
    """Of one of the errors of a ValidationError."""
    kind, context = fault["type"], fault.get("ctx", {})
    if kind in ("string_too_short", "too_short") and context["min_length"] == 1:
        return "must not be empty"
    if kind in KINDS:
        return f"{KINDS[kind]}, not {_said(fault['input'])}"
    if kind in BOUNDS:
        return BOUNDS[kind].format(**context)
    return str(fault["msg"]).removeprefix("Value error, ").replace("Input should ", "must ")


def _said(value: Any) -> str:
    """What was sent: itself where it is short, as parameters of a query are, else its type."""
    if isinstance(value, str) and 0 < len(value) <= SHORT:
        return repr(value)
    if isinstance(value, int | Decimal) and not isinstance(value, bool) and abs(value) < 10**SHORT:
        return str(value)[:SHORT]
    return next(name for holds, name in JSON_TYPES if holds(value))
