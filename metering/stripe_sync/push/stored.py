"""The ids that a push keeps, per account and mode, with what each object was made from."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from metering.models import StripePrice, StripeProduct
from metering.stripe_sync.push.plan import KeptPrice
from metering.stripe_sync.push.wanted import Wanted, WantedPrice, WantedProduct


def kept_products(session: Session, account: str) -> list[str]:
    """The ids of those that were left active."""
    query = select(StripeProduct.stripe_id).where(StripeProduct.account == account, StripeProduct.active)
    return list(session.scalars(query))


def kept_prices(session: Session, account: str) -> list[KeptPrice]:
    """Those that were left active."""
    query = select(StripePrice.stripe_id, StripePrice.key, StripePrice.current).where(
        StripePrice.account == account, StripePrice.active
    )
    return [KeptPrice(*row) for row in session.execute(query)]


def keep(session: Session, account: str, wanted: Wanted, ids: Mapping[str, str]) -> None:
    """Write down what stands at Stripe once all steps are done; `ids` are Stripe's, by product id and lookup key.

    What else was active is not any more: it was retired, or somebody had done so at Stripe.
    """
    _retire(session, account, StripeProduct, [product.id for product in wanted.products])
    _retire(session, account, StripePrice, [ids[price.key] for price in wanted.prices])
    session.execute(update(StripePrice).where(StripePrice.account == account).values(current=False))
    _upsert(session, StripeProduct, [_product(account, product) for product in wanted.products])
    _upsert(session, StripePrice, [_price(account, price, ids[price.key]) for price in wanted.prices])


def _retire(
    session: Session, account: str, table: type[StripePrice] | type[StripeProduct], standing: Iterable[str]
) -> None:
    session.execute(
        update(table).where(table.account == account, table.stripe_id.not_in(list(standing))).values(active=False)
    )


def _upsert(session: Session, table: type[Any], rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    values = insert(table).values(sorted(rows, key=lambda row: str(row["stripe_id"])))
    changed = {name: values.excluded[name] for name in rows[0] if name not in ("account", "stripe_id")}
    session.execute(values.on_conflict_do_update(index_elements=["account", "stripe_id"], set_=changed))


def _product(account: str, product: WantedProduct) -> dict[str, Any]:
    made_from = {"name": product.name, "description": product.description}
    return {"account": account, "stripe_id": product.id, "made_from": made_from, "active": True}


def _price(account: str, price: WantedPrice, id: str) -> dict[str, Any]:
    return {
        "account": account,
        "stripe_id": id,
        "key": price.key,
        "plans": list(price.plans),
        "meter": price.terms.meter,
        "made_from": price.terms.as_json(),
        "current": True,
        "active": True,
    }
