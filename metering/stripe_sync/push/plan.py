"""What is to be done so that Stripe holds what the catalog wants, as a diff that can be read before it is done. Pure.

Always holds: nothing is deleted; a price is never changed but for its name and its lookup key; what Stripe holds
already is found, by the ids that were kept or by the names that follow from the catalog, and not made again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from metering.stripe_sync.gateway import MeterAtStripe
from metering.stripe_sync.push.wanted import Wanted, WantedMeter, WantedPrice, WantedProduct
from metering.stripe_sync.terms import Amounts, Terms, plainly

Kind = Literal["meter", "product", "price"]


class Action(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    SAME = "same"
    DEACTIVATE = "deactivate"


@dataclass(frozen=True, slots=True)
class FoundProduct:
    id: str
    name: str
    description: str
    active: bool


@dataclass(frozen=True, slots=True)
class FoundPrice:
    """As it is at Stripe. `terms` is None where it bills in a way that we never ask for."""

    id: str
    key: str | None
    name: str
    active: bool
    terms: Terms | None


@dataclass(frozen=True, slots=True)
class KeptPrice:
    """What we know of a price by our own tables: one that Stripe was not told to retire."""

    id: str
    key: str
    current: bool


@dataclass(frozen=True, slots=True)
class Found:
    """`named` are the keys of meters that the environment names: those are the operator's, and keep their names.

    `meters` are by our key, `products` those that are wanted or that were kept as active, `prices` those that have a
    wanted lookup key or were kept as active.
    """

    meters: dict[str, MeterAtStripe]
    named: frozenset[str]
    products: tuple[FoundProduct, ...]
    prices: tuple[FoundPrice, ...]
    kept: tuple[KeptPrice, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One object, and what becomes of it. `id` is None until it is made; `replaces` is the price whose key it takes.

    `wanted` is None for what is retired. `says` explains the step to people.
    """

    action: Action
    kind: Kind
    key: str
    id: str | None
    says: str
    wanted: WantedMeter | WantedProduct | WantedPrice | None = None
    replaces: str | None = None


def plan(wanted: Wanted, found: Found) -> list[Step]:
    """Every object and what is to be done with it, in the order in which it can be done; retiring comes last."""
    prices = [(price, *_candidates(price, found)) for price in wanted.prices]
    kept_on = {id for _, id, _ in prices if id}
    return [
        *(_meter(meter, found) for meter in wanted.meters),
        *(_product(product, found) for product in wanted.products),
        *(_price(price, id, others, found) for price, id, others in prices),
        *_retired_prices(wanted, found, kept_on),
        *_retired_products(wanted, found),
    ]


def changes(steps: Sequence[Step]) -> list[Step]:
    """The steps that do something at Stripe."""
    return [step for step in steps if step.action is not Action.SAME]


def _meter(meter: WantedMeter, found: Found) -> Step:
    there = found.meters.get(meter.key)
    if there is None:
        return Step(Action.CREATE, "meter", meter.key, None, meter.name, meter)
    if there.display_name != meter.name and meter.key not in found.named:
        says = f"{there.display_name} → {meter.name}"
        return Step(Action.UPDATE, "meter", meter.key, there.id, says, meter)
    return Step(Action.SAME, "meter", meter.key, there.id, there.display_name, meter)


def _product(product: WantedProduct, found: Found) -> Step:
    there = next((one for one in found.products if one.id == product.id), None)
    if there is None:
        return Step(Action.CREATE, "product", product.id, None, product.name, product)
    changed = [
        f"{old or '(nothing)'} → {new or '(nothing)'}"
        for old, new in ((there.name, product.name), (there.description, product.description))
        if old != new
    ]
    if not there.active:
        changed.append("sold again")
    action = Action.UPDATE if changed else Action.SAME
    return Step(action, "product", product.id, there.id, ", ".join(changed) or product.name, product)


def _candidates(price: WantedPrice, found: Found) -> tuple[str | None, list[str]]:
    """The price that stands at Stripe for the wanted one, if there is one, and others that did."""
    current = {kept.id for kept in found.kept if kept.key == price.key and kept.current}
    by_key = [one for one in found.prices if one.key == price.key]
    known = by_key + [one for one in found.prices if one.id in current and one.key != price.key]
    terms = _at_stripe(price.terms, found)
    id = next((one.id for one in known if one.active and one.terms == terms), None)
    return id, [one.id for one in known if one.id != id]


def _price(price: WantedPrice, id: str | None, others: list[str], found: Found) -> Step:
    says = f"{describe(price.terms.amounts, price.terms.currency)} ({', '.join(price.plans)})"
    if id is None:
        replaces = others[0] if others else None
        return Step(Action.CREATE, "price", price.key, None, says, price, replaces)
    there = next(one for one in found.prices if one.id == id)
    changed = []
    if there.name != price.name:
        changed.append(f"{there.name or '(nothing)'} → {price.name}")
    if there.key != price.key:
        changed.append(f"gets its lookup key back from {there.key or 'nothing'}")
    action = Action.UPDATE if changed else Action.SAME
    return Step(action, "price", price.key, id, ", ".join(changed) or says, price)


def _retired_prices(wanted: Wanted, found: Found, kept_on: set[str]) -> Iterator[Step]:
    """Prices that stood for something once and still can be bought."""
    known = {kept.id: kept.key for kept in found.kept}
    sold = {price.key for price in wanted.prices}
    for one in found.prices:
        key = known.get(one.id) or one.key or ""
        if one.active and one.id not in kept_on:
            why = "replaced" if key in sold else "not sold any more"
            was = describe(one.terms.amounts, one.terms.currency) if one.terms else "billed in another way"
            yield Step(Action.DEACTIVATE, "price", key, one.id, f"{why}: {was}")


def _retired_products(wanted: Wanted, found: Found) -> Iterator[Step]:
    sold = {product.id for product in wanted.products}
    for one in found.products:
        if one.active and one.id not in sold:
            yield Step(Action.DEACTIVATE, "product", one.id, one.id, f"not sold any more: {one.name}")


def _at_stripe(terms: Terms, found: Found) -> Terms:
    """The terms with Stripe's id of the meter; one that is still to be made equals none."""
    if terms.meter is None:
        return terms
    there = found.meters.get(terms.meter)
    return replace(terms, meter=there.id if there else "")


def describe(amounts: Amounts, currency: str) -> str:
    """In one line, in the currency's minor unit: `0.1`, `up to 10000: 0, then: 0.1`, `5 per 1000`."""
    unit = f"{currency} minor"
    if amounts.unit_amount is not None:
        per = f" per {amounts.divide_by}" if amounts.divide_by else ""
        return f"{plainly(amounts.unit_amount)} {unit}{per}"
    parts = [
        (f"up to {tier.up_to}: " if tier.up_to is not None else "then: ")
        + plainly(tier.unit_amount)
        + (f" + {tier.flat_amount}" if tier.flat_amount else "")
        for tier in amounts.tiers
    ]
    return f"{amounts.tiers_mode}, {', '.join(parts)} {unit}"
