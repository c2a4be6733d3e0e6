"""The plan page: plans with one's own usage laid over them, and what a change means before it is made."""

import re
from collections.abc import Iterator

import pytest
from flask import Flask
from sqlalchemy import Engine

from metering.models import Customer
from tests.factories.people import Visitor, make_user
from tests.factories.shop import Served, Shop
from tests.factories.standin import StandinProcess
from tests.factories.world import World

PAGE = "/c/acme/plan"


def words(page: str) -> str:
    """The text of a page, without its markup."""
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def card(page: str, plan: str) -> str:
    found = re.findall(r'<div class="card plan-card".*?</ul>', page, re.DOTALL)
    return next(text for text in map(words, found) if text.startswith(plan))


class TestComparing:
    @pytest.fixture
    def acme(self, world: World) -> Customer:
        customer = world.customer("acme", "pro")
        make_user(world, "owner@acme.example", customer, "owner")
        return customer

    @pytest.fixture
    def owner(self, app: Flask, acme: Customer) -> Visitor:
        visitor = Visitor.of(app)
        visitor.log_in("owner@acme.example")
        return visitor

    def test_usage_is_laid_over_the_limits_of_each_plan(self, world: World, owner: Visitor) -> None:
        world.record(world.event(quantity=12_431), world.event(meter="tokens", quantity=846))
        world.drain()

        page = owner.open(PAGE).text

        assert "You use 12,431 of 1,000 Over this limit" in card(page, "Free")
        assert "You use 846 of 10,000" in card(page, "Free")
        assert "Too small for your usage of this period" in card(page, "Free")
        assert "You use 12,431 of 100,000" in card(page, "Pro")
        assert "You use 12,431 10K included, then $0.001 per API call" in card(page, "Enterprise")
        assert [card(page, plan).count("Over this limit") for plan in ("Free", "Pro", "Enterprise")] == [1, 0, 0]

    def test_each_plan_says_what_this_periods_usage_costs_on_it(self, world: World, owner: Visitor) -> None:
        world.record(world.event(quantity=12_431))
        world.drain()

        page = owner.open(PAGE).text

        assert "$49.00 a month $51.43 this period so far" in card(page, "Pro")
        assert "$499.00 a month $501.43 this period so far" in card(page, "Enterprise")

    def test_what_a_hard_limit_keeps_below_the_included_units_is_all_included(self, owner: Visitor) -> None:
        page = owner.open(PAGE).text

        assert card(page, "Free").count("All included") == 6
        assert "All included" not in card(page, "Pro")


class TestChanging:
    @pytest.fixture
    def app(self, stripe_app: Flask) -> Flask:
        return stripe_app

    @pytest.fixture
    def shop(self, app: Flask, world: World, standin: StandinProcess, engine: Engine) -> Iterator[Shop]:
        served = Served(app)
        shop = Shop(app, world, standin, engine, served.url).open()
        shop.buy("pro")
        shop.deliver()
        yield shop
        served.close()

    def test_a_change_is_explained_before_it_is_made(self, shop: Shop) -> None:
        shop.world.advance(days=15)
        shop.books.tell_time()

        asked = shop.owner.open(f"{PAGE}/change?plan=enterprise")
        text = words(asked.text)

        assert "Switch to Enterprise" in shop.page().text
        assert "$499.00 a month from Dec 10, 2026 on, instead of $49.00." in text
        assert re.search(r"The invoice of Dec 10, 2026 holds about \$22[45]\.\d\d for the rest", text), text
        assert 'name="plan" value="enterprise"' in asked.text
        assert "You use more than" not in text
        assert shop.plan() == "pro", "asking changes nothing"

    def test_what_is_said_of_proration_is_what_stripe_bills(self, shop: Shop) -> None:
        shop.world.advance(days=15)
        shop.books.tell_time()
        text = words(shop.owner.open(f"{PAGE}/change?plan=enterprise").text)
        said = float(re.findall(r"holds about \$([\d.]+)", text)[0])

        shop.press("change", plan="enterprise")

        preview = shop.client.v1.invoices.create_preview({"subscription": shop.subscription().id})
        prorated = sum(line.amount for line in preview.lines.data if line.parent.subscription_item_details.proration)
        assert prorated / 100 == pytest.approx(said, abs=0.05)

    def test_a_downgrade_warns_of_limits_that_are_passed(self, shop: Shop) -> None:
        shop.press("change", plan="enterprise")
        shop.deliver()
        shop.books.use(150_000)

        text = words(shop.owner.open(f"{PAGE}/change?plan=pro").text)

        assert "You use more than the Pro plan allows API calls: you use 150,000 of 100,000" in text
        assert "On the invoice of Dec 10, 2026 about $4" in text

    def test_both_ways_to_cancel_are_explained(self, shop: Shop) -> None:
        shop.books.use(12_000)

        asked = shop.owner.open(f"{PAGE}/cancel")
        text = words(asked.text)

        assert "With the running period, on Dec 10, 2026" in text
        assert "A last invoice bills what you used so far ($2.00), less the rest of the fee, about $4" in text
        assert "kept as credit" in text
        assert "Buying a plan again begins a new period" in text
        assert shop.plan() == "pro"

    @pytest.mark.parametrize("wanted", ["pro", "free", "nonsense", ""])
    def test_nothing_is_asked_that_cannot_be_done(self, shop: Shop, wanted: str) -> None:
        answer = shop.owner.open(f"{PAGE}/change?plan={wanted}")

        assert (answer.status_code, answer.location) == (303, PAGE)

    def test_who_may_not_change_the_plan_is_not_asked(self, shop: Shop) -> None:
        viewer = shop.colleague("viewer")

        for path in (f"{PAGE}/change?plan=enterprise", f"{PAGE}/cancel"):
            assert viewer.open(path).location == PAGE
        assert "Cancel plan" not in viewer.open(PAGE).text
