"""Money is `Decimal`, rounded once a line, half up, to the currency's minor unit."""

from decimal import ROUND_HALF_UP, Decimal

# ISO 4217 currencies whose minor unit is not a hundredth.
# Source: https://docs.stripe.com/currencies#zero-decimal and #three-decimal
ZERO_DECIMAL = (
    *("BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA"),
    *("PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"),
)
THREE_DECIMAL = ("BHD", "JOD", "KWD", "OMR", "TND")
MINOR_DIGITS = dict.fromkeys(ZERO_DECIMAL, 0) | dict.fromkeys(THREE_DECIMAL, 3)


def minor_digits(currency: str) -> int:
    """How many decimal places an amount of `currency` has when it is charged."""
    return MINOR_DIGITS.get(currency.upper(), 2)


def round_money(amount: Decimal, currency: str) -> Decimal:
    """`amount` in the currency's minor unit, half up: the one rounding that a line of a bill gets."""
    return amount.quantize(Decimal(1).scaleb(-minor_digits(currency)), rounding=ROUND_HALF_UP)
