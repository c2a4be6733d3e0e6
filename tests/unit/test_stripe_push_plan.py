"""What a catalog wants of Stripe, and what is to be done about it, without Stripe."""

from decimal import Decimal
from typing import Any

import pytest

from metering.catalog import Catalog
from metering.catalog.loader import parse_catalog
from metering.errors import ConfigurationError
from metering.stripe_sync.gateway import MeterAtStripe
from metering.stripe_sync.push.plan import Action, Found, FoundPrice, FoundProduct, KeptPrice, plan
from metering.stripe_sync.push.wanted import Wanted, wanted
from metering.stripe_sync.terms import Amounts, Terms
from metering.stripe_sync.units import unit_of, units_of

D = Decimal
CALLS = {"name": "Calls", "unit": "call", "aggregation": "sum"}
HEAT = {"name": "Heat", "unit": "degree", "aggregation": "max"}
GIB = 1024**3
TIB = 1024**4


def selling(meters: dict[str, Any], prices: dict[str, Any], **plans: dict[str, Any]) -> Catalog:
    sold = {key: {"name": key.title(), **plan} for key, plan in plans.items()} or {"pro": {"name": "Pro"}}
    return parse_catalog(
        {"version": "1", "currency": "EUR", "meters": meters, "prices": prices, "plans": sold}, "the test"
    )


def wanted_of(catalog: Catalog) -> Wanted:
    return wanted(catalog, units_of(catalog))


class TestWanted:
    def test_every_price_that_cannot_be_said_is_named(self) -> None:
        package = {"model": "package", "unit": "pack", "size": 100, "amount": "1", "included": 1}
        catalog = selling(
            {"calls": CALLS, "heat": HEAT},
            {"calls": package, "heat": {"unit": "degree", "amount": "1"}},
            pro={},
            team={"prices": {"calls": {"model": "volume", "unit": "call", "included": 1, "tiers": [{"amount": "1"}]}}},
        )

        with pytest.raises(ConfigurationError) as refused:
            wanted_of(catalog)

        paths = [line.split(":")[0].strip() for line in refused.value.message.splitlines()[1:]]
        assert paths == ["prices.calls", "plans.team.prices.calls", "prices.heat"]

    def test_a_price_that_no_plan_has_is_not_made(self) -> None:
        own = {"prices": {"calls": {"unit": "call", "amount": "0.02"}}}
        catalog = selling({"calls": CALLS}, {"calls": {"unit": "call", "amount": "0.01"}}, pro=own, team=own)

        keys = [price.key for price in wanted_of(catalog).prices]

        assert keys == [
            "metering:plan:pro",
            "metering:plan:team",
            "metering:plan:pro:meter:calls",
            "metering:plan:team:meter:calls",
        ]

    def test_a_meter_without_a_price_is_not_made(self) -> None:
        found = wanted_of(selling({"calls": CALLS}, {}))

        assert found.meters == ()
        assert [product.id for product in found.products] == ["metering_plan_pro"]

    def test_a_base_fee_is_rounded_as_our_own(self) -> None:
        (base,) = wanted_of(selling({"calls": CALLS}, {}, pro={"base_fee": "9.995"})).prices

        assert base.terms == Terms("metering_plan_pro", "eur", None, Amounts(unit_amount=D(1000)))


class TestUnits:
    @pytest.mark.parametrize(
        ("size", "amount", "unit"),
        [
            ("1000", "0.01", "1"),
            (str(GIB), "0.09", "1.073741824"),  # a billionth of a GB
            (str(GIB), "0.000321", "10.73741824"),  # 0.0321 cents: at most eight places of the GB's are left
            ("60", "0.01", "0.00000006"),
        ],
    )
    def test_what_one_price_needs(self, size: str, amount: str, unit: str) -> None:
        catalog = selling({"calls": CALLS}, {"calls": {"unit": "u", "size": size, "amount": amount}})

        assert unit_of(catalog, catalog.meters["calls"]) == D(unit)

    def test_all_prices_of_a_meter_share_one(self) -> None:
        by_the_gb = {"unit": "GB", "size": GIB, "amount": "0.09"}
        dearer = {"prices": {"calls": {**by_the_gb, "amount": "0.0001234"}}}  # 0.01234 cents
        catalog = selling({"calls": CALLS}, {"calls": by_the_gb}, pro={}, team=dearer)

        assert unit_of(catalog, catalog.meters["calls"]) == D(GIB).scaleb(-7)

    def test_sizes_that_do_not_fit_each_other_are_refused_by_the_path_of_one(self) -> None:
        by_the_gb = {"unit": "GB", "size": GIB, "amount": "0.09", "included": 5}
        by_the_tb = {"prices": {"calls": {"unit": "TB", "size": TIB, "amount": "90"}}}
        catalog = selling({"calls": CALLS}, {"calls": by_the_gb}, pro={}, team=by_the_tb)

        with pytest.raises(ConfigurationError, match=r"plans.team.prices.calls: a unit at Stripe would cost"):
            wanted_of(catalog)


class TestPlan:
    CATALOG = selling({"calls": CALLS}, {"calls": {"unit": "call", "amount": "0.01"}}, pro={"base_fee": "5"})
    METER = MeterAtStripe("mtr_1", "calls", "sum", True, "stripe_customer_id", "value", "Calls")
    PRODUCTS = (
        FoundProduct("metering_plan_pro", "Pro plan", "", True),
        FoundProduct("metering_meter_calls", "Calls", "", True),
    )
    FEE = Terms("metering_plan_pro", "eur", None, Amounts(D(500)))
    BASE = FoundPrice("price_base", "metering:plan:pro", "Pro plan", True, FEE)
    BY_THE_CALL = Terms("metering_meter_calls", "eur", "mtr_1", Amounts(D(1)))
    METERED = FoundPrice("price_calls", "metering:meter:calls", "Calls", True, BY_THE_CALL)

    def steps(self, **found: Any) -> dict[str, tuple[Action, str | None]]:
        there: dict[str, Any] = {
            "meters": {"calls": self.METER},
            "named": frozenset(),
            "products": self.PRODUCTS,
            "prices": (self.BASE, self.METERED),
            "kept": (),
            **found,
        }
        return {
            f"{step.kind} {step.id or step.key}": (step.action, step.replaces)
            for step in plan(wanted_of(self.CATALOG), Found(**there))
            if step.action is not Action.SAME
        }

    def test_what_is_there_stays(self) -> None:
        assert self.steps() == {}

    def test_a_price_on_another_meter_is_another_price(self) -> None:
        other = MeterAtStripe("mtr_2", "calls", "sum", True, "stripe_customer_id", "value", "Calls")

        assert self.steps(meters={"calls": other}) == {
            "price metering:meter:calls": (Action.CREATE, "price_calls"),
            "price price_calls": (Action.DEACTIVATE, None),
        }

    def test_a_price_on_a_meter_that_is_still_to_be_made_is_made(self) -> None:
        steps = self.steps(meters={})

        assert steps["meter calls"] == (Action.CREATE, None)
        assert steps["price metering:meter:calls"] == (Action.CREATE, "price_calls")

    def test_a_price_that_lost_its_lookup_key_is_known_by_its_kept_id(self) -> None:
        nameless = FoundPrice("price_base", None, "Pro plan", True, self.FEE)
        kept = (KeptPrice("price_base", "metering:plan:pro", current=True),)

        assert self.steps(prices=(nameless, self.METERED), kept=kept) == {"price price_base": (Action.UPDATE, None)}

    def test_an_old_price_that_was_never_retired_is(self) -> None:
        old = FoundPrice("price_old", None, "Pro plan", True, self.FEE)
        kept = (KeptPrice("price_old", "metering:plan:pro", current=False),)

        assert self.steps(prices=(self.BASE, self.METERED, old), kept=kept) == {
            "price price_old": (Action.DEACTIVATE, None)
        }

    def test_a_meter_that_the_environment_names_keeps_its_name(self) -> None:
        own = MeterAtStripe("mtr_1", "own", "sum", True, "stripe_customer_id", "value", "Own")

        assert self.steps(meters={"calls": own}, named=frozenset({"calls"})) == {}
        assert self.steps(meters={"calls": own}) == {"meter mtr_1": (Action.UPDATE, None)}
