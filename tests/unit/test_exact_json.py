"""JSON that loses no digit, whichever way it is read."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering import exact_json

NUMBERS = [
    *("0.1", "-0.10", "1e5", "1E400", "-2.5e-7", "123456789012345678901234567890", "-9223372036854775809"),
    *("9007199254740993", "9223372036854775807", "18446744073709551616", "1.0", "0"),
]


def told_apart(value: Any) -> Any:
    """A value with the type of each number, for 1 and 1.0 and Decimal("1.0") are equal."""
    if isinstance(value, dict):
        return {key: told_apart(part) for key, part in value.items()}
    if isinstance(value, list):
        return [told_apart(part) for part in value]
    return (type(value), str(value))


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(
    "around", ["%s", "-%s", " %s ", "[%s]", "[1, %s]", "[1,\n%s]", '{"a":%s}', '{"a" : %s}', '{"a":[{"b":\t%s}]}']
)
def test_a_number_keeps_its_digits_wherever_it_stands(around: str, number: str) -> None:
    text = around % number.lstrip("-")

    wanted = json.loads(text, parse_float=Decimal)
    assert told_apart(exact_json.parse(text)) == told_apart(exact_json.parse(text.encode())) == told_apart(wanted)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.decimals(-(10**30), 10**30, allow_nan=False, places=25),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_what_is_written_is_read_as_it_was(value: Any) -> None:
    text = exact_json.write(value)

    assert exact_json.parse(text) == value
    assert told_apart(exact_json.parse(text)) == told_apart(json.loads(text, parse_float=Decimal))


NO_JSON = ["", "{", "nul", "[1,]", "NaN", "[Infinity]", '{"a": -Infinity}', "01", "[1.]", "[.5]", "1 2", '"\x00"']


@pytest.mark.parametrize("text", [*NO_JSON, "[" * 200_000])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        exact_json.parse(text)


@pytest.mark.parametrize("raw", [b'"\xff"', b"\xff\xfe1\x00", '"é"'.encode("utf-16"), b'{"a": 1.5, "b": "\xff"}'])
def test_json_is_utf8(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        exact_json.parse(raw)
