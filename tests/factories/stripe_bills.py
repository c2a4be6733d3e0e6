"""What Stripe bills for so many units of a metered price, by its documentation and not by our code.

Lines are rounded one by one, half up; a graduated price has a line for each tier that something falls into, and for the
first one always. Source:
https://docs.stripe.com/billing/subscriptions/decimal-amounts, .../tiers, .../quantity-transformation.
"""

from decimal import ROUND_HALF_UP, Decimal

from metering.stripe_sync.terms import Amounts


def stripe_bills(amounts: Amounts, quantity: int) -> int:
    """The amount in the currency's minor unit."""
    if amounts.unit_amount is not None:
        charged = -(-quantity // amounts.divide_by) if amounts.divide_by else quantity
        return _rounded(charged * amounts.unit_amount)
    if amounts.tiers_mode == "volume":
        tier = next(tier for tier in amounts.tiers if tier.up_to is None or quantity <= tier.up_to)
        return _rounded(quantity * tier.unit_amount) + tier.flat_amount
    total, floor = 0, 0
    for tier in amounts.tiers:
        inside = (quantity if tier.up_to is None else min(quantity, tier.up_to)) - floor
        if inside > 0 or tier is amounts.tiers[0]:
            total += _rounded(inside * tier.unit_amount) + tier.flat_amount
        floor = tier.up_to or floor
    return total


def _rounded(amount: Decimal) -> int:
    return int(amount.quantize(Decimal(1), rounding=ROUND_HALF_UP))
