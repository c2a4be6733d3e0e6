"""Stripe's meters, products and prices: what is there, and one step of a plan at a time.

Always holds: a step that is done twice, by a push that was killed or by two at once, leaves one object. Objects are
made under an Idempotency-Key that is derived from what they are, and found again by an id or a lookup key of the same.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import stripe

from metering.catalog import Catalog
from metering.errors import ConfigurationError
from metering.models import StripeMeter
from metering.stripe_sync.gateway import PAGE, MeterAtStripe, NoSuchMeter, StripeApi, StripeFailed, outcome_of
from metering.stripe_sync.meters import ids_from, named_meter, usable
from metering.stripe_sync.push.plan import Found, FoundPrice, FoundProduct, KeptPrice, Step
from metering.stripe_sync.push.read import found_price, found_product, price_parameters
from metering.stripe_sync.push.wanted import Wanted, WantedMeter, WantedPrice, WantedProduct

LOOKUP_KEYS_A_LIST = 10
ATTEMPTS = 5
"""Of making an object: each Idempotency-Key answers for 24 hours what it answered first, an error as well."""

Made = TypeVar("Made", stripe.Product, stripe.Price)


def find(
    api: StripeApi,
    wanted: Wanted,
    catalog: Catalog,
    environ: Mapping[str, str],
    links: Mapping[str, StripeMeter],
    reported: Collection[str],
    kept_products: Iterable[str],
    kept_prices: Sequence[KeptPrice],
) -> Found:
    """What Stripe holds of what is wanted, and of what was kept as active.

    A meter is the one that the environment names, else the one that is linked, else that of its event name. `reported`
    are the keys of those over whose link anything was reported.

    Raises:
        ConfigurationError: a meter that is named or linked does not add up what it gets, takes nothing, or is gone.
        StripeFailed: Stripe did not answer.
    """
    try:
        named = ids_from(environ, catalog)
        meters = dict(_meters(api, wanted, named, links, reported))
        products = dict.fromkeys([*(product.id for product in wanted.products), *kept_products])
        return Found(
            meters=meters,
            named=frozenset(named),
            products=tuple(_products(api.client, list(products))),
            prices=tuple(_prices(api.client, [price.key for price in wanted.prices], kept_prices)),
            kept=tuple(kept_prices),
        )
    except stripe.StripeError as error:
        raise StripeFailed(outcome_of(error)) from error


def act(api: StripeApi, step: Step, meters: Mapping[str, str]) -> str:
    """Do one step; the id of its object. `meters` holds Stripe's ids by our keys. Raises StripeFailed."""
    try:
        match step.wanted:
            case WantedMeter() as meter:
                return _act_on_meter(api, step, meter)
            case WantedProduct() as product:
                return _act_on_product(api, step, product)
            case WantedPrice() as price:
                return _act_on_price(api, step, price, meters)
            case None:
                return _retire(api.client, step)
    except stripe.StripeError as error:
        raise StripeFailed(outcome_of(error)) from error


def _meters(
    api: StripeApi,
    wanted: Wanted,
    named: Mapping[str, str],
    links: Mapping[str, StripeMeter],
    reported: Collection[str],
) -> Iterator[tuple[str, MeterAtStripe]]:
    unknown = []
    for meter in wanted.meters:
        if id := named.get(meter.key):
            yield meter.key, usable(meter.key, named_meter(api, meter.key, id))
        elif (found := _linked_meter(api, meter.key, links.get(meter.key), meter.key in reported)) is not None:
            yield meter.key, usable(meter.key, found)
        else:
            unknown.append(meter.key)
    if unknown:
        there = api.meters_by_name()
        yield from ((key, usable(key, there[key])) for key in unknown if key in there)


def _linked_meter(api: StripeApi, key: str, link: StripeMeter | None, is_reported: bool) -> MeterAtStripe | None:
    """None where there is no link, or its meter is gone and nothing was reported to it: another takes its place."""
    if link is None:
        return None
    try:
        return api.meter(link.stripe_id)
    except NoSuchMeter:
        if not is_reported:
            return None
    raise ConfigurationError(
        f"usage was reported to the Stripe meter {link.stripe_id} for {key}, which Stripe does not know any "
        f"more in {link.account}: was the data of a sandbox deleted? If it is gone for good, `flask metering stripe "
        f"forget-meter {key} --note …` has its usage owed again, to the meter that the next push makes"
    )


def _products(client: stripe.StripeClient, ids: Sequence[str]) -> Iterator[FoundProduct]:
    for some in _in_lists(ids, PAGE):
        listed = client.v1.products.list({"ids": some, "limit": PAGE})
        yield from (found_product(product) for product in listed.auto_paging_iter())


def _prices(client: stripe.StripeClient, keys: Sequence[str], kept: Sequence[KeptPrice]) -> Iterator[FoundPrice]:
    found = set()
    for price in _with_keys(client, keys):
        found.add(price.id)
        yield price
    for one in kept:
        if one.id not in found and (kept_one := _price(client, one.id)) is not None:
            yield kept_one


def _price(client: stripe.StripeClient, id: str) -> FoundPrice | None:
    """None where it is gone: the data of a sandbox can be deleted there."""
    try:
        return found_price(client.v1.prices.retrieve(id, {"expand": ["tiers"]}))
    except stripe.InvalidRequestError as error:
        if error.code == "resource_missing":
            return None
        raise


def _with_keys(client: stripe.StripeClient, keys: Sequence[str]) -> Iterator[FoundPrice]:
    for some in _in_lists(keys, LOOKUP_KEYS_A_LIST):
        listed = client.v1.prices.list({"lookup_keys": some, "expand": ["data.tiers"], "limit": PAGE})
        yield from (found_price(price) for price in listed.auto_paging_iter())


def _act_on_meter(api: StripeApi, step: Step, meter: WantedMeter) -> str:
    if step.id is None:
        return usable(meter.key, api.find_or_create_meter(meter.key, meter.name)).id
    api.client.v1.billing.meters.update(step.id, {"display_name": meter.name})
    return step.id


def _act_on_product(api: StripeApi, step: Step, product: WantedProduct) -> str:
    products = api.client.v1.products
    if step.id is not None:
        products.update(step.id, {"name": product.name, "description": product.description, "active": True})
        return step.id
    params: Any = {"id": product.id, "name": product.name, "metadata": {"metering": product.id}}
    if product.description:
        params["description"] = product.description

    def there() -> str | None:
        return next((one.id for one in _products(api.client, [product.id])), None)

    return _made_once(lambda key: products.create(params, {"idempotency_key": key}), there, _key(api, step, params))


def _act_on_price(api: StripeApi, step: Step, price: WantedPrice, meters: Mapping[str, str]) -> str:
    prices = api.client.v1.prices
    if step.id is not None:
        prices.update(step.id, {"nickname": price.name, "lookup_key": price.key, "transfer_lookup_key": True})
        return step.id
    params: Any = price_parameters(price, meters)

    def there() -> str | None:
        standing = (one for one in _with_keys(api.client, [price.key]) if one.active and one.id != step.replaces)
        return next((one.id for one in standing), None)

    return _made_once(lambda key: prices.create(params, {"idempotency_key": key}), there, _key(api, step, params))


def _retire(client: stripe.StripeClient, step: Step) -> str:
    assert step.id is not None, "what is retired was found"
    if step.kind == "price":
        client.v1.prices.update(step.id, {"active": False})
    else:
        client.v1.products.update(step.id, {"active": False})
    return step.id


def _made_once(make: Callable[[str], Made], there: Callable[[], str | None], key: str) -> str:
    """Make an object under `key`, unless that answers for an earlier time: then look whether it is there after all."""
    for attempt in range(ATTEMPTS):
        try:
            made = make(f"{key}-{attempt}")
            headers: Mapping[str, str] = made.last_response.headers if made.last_response else {}
            if not _is_repeated(headers):
                return made.id
        except stripe.StripeError as error:
            if not (_is_repeated(error.headers or {}) or error.code == "resource_already_exists"):
                raise
            failed = error
        else:
            failed = stripe.APIError("Stripe repeats the answer of an earlier time")
        if (id := there()) is not None:
            return id
    raise failed


def _is_repeated(headers: Mapping[str, str]) -> bool:
    return {name.lower(): value for name, value in headers.items()}.get("idempotent-replayed") == "true"


def _key(api: StripeApi, step: Step, params: Mapping[str, Any]) -> str:
    """Holds what is replaced as well: a price that comes back after another one is not that of the first time."""
    content = json.dumps([api.account, step.replaces, params], sort_keys=True, default=str)
    return f"push-{step.kind}-{hashlib.sha256(content.encode()).hexdigest()}"


def _in_lists(values: Sequence[str], most: int) -> Iterator[list[str]]:
    return (list(values[start : start + most]) for start in range(0, len(values), most))
