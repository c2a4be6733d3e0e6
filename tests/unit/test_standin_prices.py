"""Products and prices of the stand-in."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import stripe

from tests.factories.standin import InProcessStandin, make_meter

NOW = 1_800_000_000
MONTHLY = {"interval": "month"}
TIERS = [
    {"up_to": 1000, "unit_amount": 0},
    {"up_to": 5000, "unit_amount_decimal": "0.5", "flat_amount": 200},
    {"up_to": "inf", "unit_amount_decimal": "0.25"},
]


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[InProcessStandin]:
    standin = InProcessStandin(tmp_path, NOW)
    yield standin
    standin.close()


@pytest.fixture
def client(standin: InProcessStandin) -> stripe.StripeClient:
    return standin.client()


@pytest.fixture
def product(client: stripe.StripeClient) -> str:
    return client.v1.products.create({"name": "API", "metadata": {"plan": "pro"}}).id


def make_price(client: stripe.StripeClient, product: str, **more: Any) -> stripe.Price:
    params: Any = {"currency": "usd", "product": product, "recurring": MONTHLY, **more}
    return client.v1.prices.create(params)


def tiered(meter: str, **more: Any) -> dict[str, Any]:
    return {
        "billing_scheme": "tiered",
        "tiers_mode": "graduated",
        "tiers": TIERS,
        "recurring": {"interval": "month", "usage_type": "metered", "meter": meter},
        **more,
    }


class TestProducts:
    def test_a_product_is_made_changed_and_found(self, client):
        product = client.v1.products.create({"name": "API", "metadata": {"plan": "pro"}})
        assert (product.active, product.type, product.description) == (True, "service", None)

        changed = client.v1.products.update(product.id, {"name": "Calls", "metadata": {"v": "2"}, "active": False})

        assert (changed.name, changed.active) == ("Calls", False)
        assert changed.metadata.to_dict() == {"plan": "pro", "v": "2"}
        assert client.v1.products.retrieve(product.id).to_dict() == changed.to_dict()

    def test_an_id_of_ones_own_is_kept_and_taken_once(self, client):
        assert client.v1.products.create({"id": "api", "name": "API"}).id == "api"

        with pytest.raises(stripe.InvalidRequestError, match="already exists") as refused:
            client.v1.products.create({"id": "api", "name": "API"})
        assert refused.value.code == "resource_already_exists"

    def test_products_are_listed_by_id_and_by_activity(self, client):
        made = [client.v1.products.create({"name": str(n), "active": n != 1}).id for n in range(3)]

        assert [p.id for p in client.v1.products.list().data] == made[::-1]
        assert [p.id for p in client.v1.products.list({"active": True}).data] == [made[2], made[0]]
        assert [p.id for p in client.v1.products.list({"ids": made[:1]}).data] == made[:1]

    def test_the_default_price_is_a_price_of_the_product(self, client, product):
        price = make_price(client, product, unit_amount=5)
        other = client.v1.products.create({"name": "Other"}).id

        assert client.v1.products.update(product, {"default_price": price.id}).default_price == price.id
        with pytest.raises(stripe.InvalidRequestError):
            client.v1.products.update(other, {"default_price": price.id})


class TestPrices:
    @pytest.mark.parametrize(
        ("sent", "whole", "exact"),
        [
            ({"unit_amount": 1050}, 1050, "1050"),
            ({"unit_amount_decimal": "5.0"}, 5, "5"),
            ({"unit_amount_decimal": "100"}, 100, "100"),
            ({"unit_amount_decimal": "0.050"}, None, "0.05"),
            ({"unit_amount_decimal": "0.000000000001"}, None, "0.000000000001"),
        ],
    )
    def test_an_amount_is_shown_whole_where_it_is_and_as_a_decimal_always(self, client, product, sent, whole, exact):
        price = make_price(client, product, **sent)

        assert (price.billing_scheme, price.unit_amount) == ("per_unit", whole)
        assert price.unit_amount_decimal == Decimal(exact)

    def test_tiers_are_shown_on_request_only(self, client, product):
        meter = make_meter(client, "api_call")
        price = make_price(client, product, **tiered(meter.id))

        assert "tiers" not in price
        assert (price.billing_scheme, price.tiers_mode, price.unit_amount) == ("tiered", "graduated", None)
        shown = client.v1.prices.retrieve(price.id, {"expand": ["tiers", "product"]})
        assert [tier.up_to for tier in shown.tiers] == [1000, 5000, None]
        assert [tier.unit_amount for tier in shown.tiers] == [0, None, None]
        assert [tier.unit_amount_decimal for tier in shown.tiers] == [Decimal(0), Decimal("0.5"), Decimal("0.25")]
        assert [tier.flat_amount for tier in shown.tiers] == [None, 200, None]
        assert shown.product.name == "API"
        (listed,) = client.v1.prices.list({"expand": ["data.tiers"]}).data
        assert listed.tiers == shown.tiers

    def test_a_metered_price_shows_its_meter(self, client, product):
        meter = make_meter(client, "api_call")

        price = make_price(
            client,
            product,
            unit_amount=3,
            transform_quantity={"divide_by": 100, "round": "up"},
            recurring={"interval": "month", "usage_type": "metered", "meter": meter.id},
        )

        assert (price.recurring.usage_type, price.recurring.meter) == ("metered", meter.id)
        assert price.transform_quantity.to_dict() == {"divide_by": 100, "round": "up"}

    @pytest.mark.parametrize(
        ("more", "param"),
        [
            ({}, "unit_amount"),
            ({"unit_amount": 1, "unit_amount_decimal": "1"}, "unit_amount"),
            ({"unit_amount": -1}, "unit_amount"),
            ({"unit_amount_decimal": "0.0000000000001"}, "unit_amount_decimal"),
            ({"unit_amount_decimal": "1E-7"}, "unit_amount_decimal"),
            ({"unit_amount": 1, "tiers": TIERS}, "tiers"),
            ({"billing_scheme": "tiered", "tiers_mode": "graduated"}, "tiers"),
            ({"billing_scheme": "tiered", "tiers": TIERS}, "tiers_mode"),
            ({"billing_scheme": "tiered", "tiers_mode": "volume", "tiers": TIERS[:2]}, "tiers"),
            ({"billing_scheme": "tiered", "tiers_mode": "volume", "tiers": [TIERS[1], *TIERS]}, "tiers"),
            ({"billing_scheme": "tiered", "tiers_mode": "volume", "tiers": [TIERS[2], TIERS[2]]}, "tiers"),
            ({"billing_scheme": "tiered", "tiers_mode": "volume", "tiers": [{"up_to": "inf"}]}, "tiers[0]"),
            (
                {
                    "billing_scheme": "tiered",
                    "tiers_mode": "volume",
                    "tiers": [{"up_to": "inf", "flat_amount_decimal": "0.5"}],
                },
                "tiers[0][flat_amount_decimal]",
            ),
            (
                {
                    "billing_scheme": "tiered",
                    "tiers_mode": "volume",
                    "tiers": TIERS,
                    "transform_quantity": {"divide_by": 2, "round": "up"},
                },
                "transform_quantity",
            ),
            ({"unit_amount": 1, "recurring": {"interval": "month", "usage_type": "metered"}}, "recurring[meter]"),
            (
                {"unit_amount": 1, "recurring": {"interval": "month", "usage_type": "metered", "meter": "mtr_none"}},
                "recurring[meter]",
            ),
            ({"unit_amount": 1, "recurring": {"interval": "month", "meter": "mtr_none"}}, "recurring[meter]"),
            ({"unit_amount": 1, "recurring": {"interval": "year", "interval_count": 4}}, "recurring[interval_count]"),
            ({"unit_amount": 1, "product": "prod_none"}, "product"),
            ({"unit_amount": 1, "product_data": {"name": "x"}}, "product"),
            ({"unit_amount": 1, "currency": "usdollar"}, "currency"),
            ({"unit_amount": 1, "currency_options": {"eur": {"unit_amount": 1}}}, "currency_options"),
        ],
    )
    def test_a_price_that_stripe_would_not_make_is_refused_and_not_made(self, client, product, more, param):
        params: Any = {"currency": "usd", "product": product, "recurring": MONTHLY, **more}

        with pytest.raises(stripe.InvalidRequestError) as refused:
            client.v1.prices.create(params)

        assert (refused.value.http_status, refused.value.param) == (400, param)
        assert client.v1.prices.list().data == []

    def test_an_inactive_meter_carries_no_price(self, client, product):
        meter = make_meter(client, "api_call")
        client.v1.billing.meters.deactivate(meter.id)

        with pytest.raises(stripe.InvalidRequestError, match="not active"):
            make_price(client, product, **tiered(meter.id))

    def test_only_its_names_and_whether_it_is_active_change(self, client, product):
        price = make_price(client, product, unit_amount=5, metadata={"plan": "pro"})

        changed = client.v1.prices.update(
            price.id, {"active": False, "nickname": "Old", "lookup_key": "old", "metadata": {"plan": "", "v": "1"}}
        )

        assert (changed.active, changed.nickname, changed.lookup_key) == (False, "Old", "old")
        assert changed.metadata.to_dict() == {"v": "1"}
        immutable: Any = {"unit_amount": 6}
        with pytest.raises(stripe.InvalidRequestError, match="unknown parameter: unit_amount"):
            client.v1.prices.update(price.id, immutable)

    def test_a_lookup_key_belongs_to_one_price_and_moves_on_request(self, client, product):
        old = make_price(client, product, unit_amount=5, lookup_key="pro_base")
        with pytest.raises(stripe.InvalidRequestError, match="already uses that lookup key") as refused:
            make_price(client, product, unit_amount=6, lookup_key="pro_base")
        assert refused.value.param == "lookup_key"

        new = make_price(client, product, unit_amount=6, lookup_key="pro_base", transfer_lookup_key=True)

        assert client.v1.prices.retrieve(old.id).lookup_key is None
        assert [p.id for p in client.v1.prices.list({"lookup_keys": ["pro_base"]}).data] == [new.id]

    def test_prices_are_listed_by_what_they_hang_on(self, client, product):
        meter = make_meter(client, "api_call")
        other = client.v1.products.create({"name": "Other"}).id
        flat = make_price(client, product, unit_amount=5)
        usage = make_price(client, other, **tiered(meter.id, active=False))

        def found(**params: Any) -> list[str]:
            filters: Any = params
            return [price.id for price in client.v1.prices.list(filters).data]

        assert found() == [usage.id, flat.id]
        assert found(product=product) == [flat.id]
        assert found(active=False) == [usage.id]
        assert found(recurring={"meter": meter.id}) == [usage.id]
        assert found(recurring={"usage_type": "licensed"}) == [flat.id]
        assert found(type="one_time") == []

    def test_a_price_may_make_its_product(self, client):
        params: Any = {"currency": "usd", "unit_amount": 5, "product_data": {"name": "Made", "metadata": {"a": "b"}}}

        price = client.v1.prices.create({**params, "expand": ["product"]})

        assert (price.product.name, price.type, price.recurring) == ("Made", "one_time", None)
        assert [p.id for p in client.v1.products.list().data] == [price.product.id]
