"""Stripe's products and prices in our words, and a price of ours in Stripe's. Pure."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import stripe

from metering.stripe_sync.push.plan import FoundPrice, FoundProduct
from metering.stripe_sync.push.wanted import WantedPrice
from metering.stripe_sync.terms import NOTHING, Amounts, Terms, TierTerms, plainly


class Digits(Decimal):
    """Writes itself without an exponent. The library sends what `str` says, and of a small Decimal that is 1E-8."""

    def __str__(self) -> str:
        return plainly(self)


def found_product(product: stripe.Product) -> FoundProduct:
    return FoundProduct(product.id, product.name, product.description or "", product.active)


def found_price(price: stripe.Price) -> FoundPrice:
    """A price, its tiers expanded."""
    return FoundPrice(price.id, price.lookup_key, price.nickname or "", price.active, _terms(price))


def price_parameters(price: WantedPrice, meters: Mapping[str, str]) -> dict[str, Any]:
    """What `prices.create` takes."""
    terms, amounts = price.terms, price.terms.amounts
    recurring: dict[str, Any] = {"interval": "month", "usage_type": "licensed"}
    if terms.meter is not None:
        recurring |= {"usage_type": "metered", "meter": meters[terms.meter]}
    params: dict[str, Any] = {
        "product": terms.product,
        "currency": terms.currency,
        "nickname": price.name,
        "lookup_key": price.key,
        "transfer_lookup_key": True,
        "recurring": recurring,
        "metadata": {"metering": price.key},
    }
    if amounts.tiers_mode:
        tiers = [_tier_parameters(tier) for tier in amounts.tiers]
        return {**params, "billing_scheme": "tiered", "tiers_mode": amounts.tiers_mode, "tiers": tiers}
    if amounts.divide_by:
        params["transform_quantity"] = {"divide_by": amounts.divide_by, "round": "up"}
    return {**params, "billing_scheme": "per_unit", "unit_amount_decimal": Digits(amounts.unit_amount or NOTHING)}


def _tier_parameters(tier: TierTerms) -> dict[str, Any]:
    params: dict[str, Any] = {
        "up_to": "inf" if tier.up_to is None else tier.up_to,
        "unit_amount_decimal": Digits(tier.unit_amount),
    }
    return params | ({"flat_amount": tier.flat_amount} if tier.flat_amount else {})


def _terms(price: stripe.Price) -> Terms | None:
    """None for what is never asked for here: one-time prices, other intervals, what the buyer chooses."""
    recurring = price.recurring
    amounts = _amounts(price)
    if amounts is None or recurring is None or (recurring.interval, recurring.interval_count) != ("month", 1):
        return None
    if (recurring.usage_type == "metered") != (recurring.meter is not None):
        return None
    product = price.product if isinstance(price.product, str) else price.product.id
    return Terms(product, price.currency, recurring.meter, amounts)


def _amounts(price: stripe.Price) -> Amounts | None:
    if price.billing_scheme == "tiered" and price.tiers_mode in ("graduated", "volume"):
        tiers = (
            TierTerms(tier.up_to, _amount(tier.unit_amount_decimal), int(tier.flat_amount or 0))
            for tier in price.tiers or ()
        )
        return Amounts(tiers=tuple(tiers), tiers_mode="volume" if price.tiers_mode == "volume" else "graduated")
    if price.billing_scheme != "per_unit" or price.unit_amount_decimal is None:
        return None
    divided = price.transform_quantity
    if divided is not None and divided.round != "up":
        return None
    return Amounts(unit_amount=_amount(price.unit_amount_decimal), divide_by=divided.divide_by if divided else None)


def _amount(said: Decimal | None) -> Decimal:
    return NOTHING if said is None else Decimal(said)
