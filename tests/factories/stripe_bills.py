"""What Stripe bills for so many units of a metered price, by its documentation and not by our code.

Lines are rounded one by one, half up; a graduated price has a line for each tier that something falls into. Source:
https://docs.stripe.com/billing/subscriptions/decimal-amounts, .../tiers, .../quantity-transformation.
"""

from decimal import ROUND_HALF_UP, Decimal

from metering.stripe_sync.terms import Amounts, TierTerms


def stripe_bills(amounts: Amounts, quantity: int) -> int:
    """The amount in the currency's minor unit."""
    if amounts.unit_amount is not None:
        charged = -(-quantity // amounts.divide_by) if amounts.divide_by else quantity
        return _rounded(charged * amounts.unit_amount)
    if amounts.tiers_mode == "volume":
        tier = next(tier for tier in amounts.tiers if tier.up_to is None or quantity <= tier.up_to)
        return _rounded(quantity * tier.unit_amount) + (tier.flat_amount if quantity else _unknown(tier))
    total, floor = 0, 0
    for tier in amounts.tiers:
        inside = (quantity if tier.up_to is None else min(quantity, tier.up_to)) - floor
        if inside > 0:
            total += _rounded(inside * tier.unit_amount) + tier.flat_amount
        elif floor == 0:
            total += _unknown(tier)
        floor = tier.up_to or floor
    return total


def _unknown(first: TierTerms) -> int:
    assert not first.flat_amount, "whether Stripe charges the flat amount of a first tier for no usage is not known"
    return 0


def _rounded(amount: Decimal) -> int:
    return int(amount.quantize(Decimal(1), rounding=ROUND_HALF_UP))
