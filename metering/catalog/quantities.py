"""Quantities as exact decimals, and the sizes people write ("100 MiB"). Pure."""

import re
from decimal import Decimal, InvalidOperation

BINARY_SIZES = {"": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40, "PIB": 2**50}
NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
SIZE = re.compile(r"\s*([0-9][0-9_]*(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")


def parse_size(text: str) -> Decimal:
    """`"100 MiB"` → 104857600; a plain number passes as it is. Raises ValueError on anything else."""
    match = SIZE.fullmatch(text)
    factor = BINARY_SIZES.get(match[2].upper()) if match else None
    if match is None or factor is None:
        raise ValueError(f'{text!r} is no quantity: write a number, or a size such as "100 MiB" or "10 GiB"')
    return Decimal(match[1].replace("_", "")) * factor


def exact(value: object) -> Decimal:
    """An exact decimal from what a caller handed in: int, Decimal or a decimal string, never a float's binary.

    A float is taken by its shortest decimal form, the digits its writer saw. Raises ValueError otherwise.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise ValueError(f"{value!r} is not a number")
    if isinstance(value, str) and not NUMBER.fullmatch(value):
        raise ValueError(f"{value!r} is not a number")
    try:
        number = Decimal(repr(value) if isinstance(value, float) else value)
    except InvalidOperation:
        raise ValueError(f"{value!r} is not a number") from None
    if not number.is_finite():
        raise ValueError(f"{value!r} is not a finite number")
    return number
