"""The bill page: each line with the usage behind it, and invoices beside our own figures of their period."""

import re
from datetime import timedelta
from decimal import Decimal
from importlib import resources
from pathlib import Path

import pytest
import requests
from flask import Flask

from metering.embedded import Addresses
from metering.models import Customer
from tests.conftest import running_app
from tests.factories.people import Visitor, make_user
from tests.factories.shop import PATIENCE_SECONDS, Shop
from tests.factories.subscriptions import invoiced
from tests.factories.world import World

PAGE = "/c/acme/bill"
PER_TOKEN = """
model = "per_unit"
unit = "token"
amount = "0.00001"
"""
TIERS_OF_TOKENS = """
model = "graduated"
unit = "token"
tiers = [{ up_to = 100_000, amount = "0.0001" }, { amount = "0.00005", flat = "1" }]
"""


@pytest.fixture
def acme(world: World) -> Customer:
    """On the pro plan in Berlin; it is November 10, 13:00 there."""
    customer = world.customer("acme", "pro", timezone="Europe/Berlin")
    make_user(world, "owner@acme.example", customer, "owner")
    return customer


def logged_in(app: Flask) -> Visitor:
    visitor = Visitor.of(app)
    visitor.log_in("owner@acme.example")
    return visitor


def words(page: str) -> str:
    """The text of a page, without its markup."""
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


class TestTheRunningPeriod:
    def test_a_line_opens_to_its_sum_and_its_days_in_the_customers_zone(
        self, app: Flask, world: World, acme: Customer
    ) -> None:
        """Given usage at 23:30 UTC of the 8th, then it is that of the 9th in Berlin."""
        late = world.now.replace(day=8, hour=23, minute=30)
        for quantity, at in ((12_000, late), (431, world.now)):
            world.record(world.event(quantity=quantity, time=int(at.timestamp() * 1_000_000)))
        world.drain()

        page = words(logged_in(app).open(PAGE).text)

        assert "12,431 API calls used, 10,000 included: 2,431 × $0.001 = $2.43" in page
        assert re.search(r"Nov 9 12,000 Nov 10 431 ", page)
        assert "Total so far $51.43" in page
        assert "Billed in advance" not in page

    def test_tiers_say_what_fell_into_each(
        self, world: World, acme: Customer, servers: Addresses, tmp_path: Path
    ) -> None:
        """150,000 tokens are billed: 100,000 at $0.0001 are $10, and the rest at $0.00005 with $1 are $3.50."""
        file = tmp_path / "tiers.toml"
        default = resources.files("metering.catalog").joinpath("default.toml").read_text("utf-8")
        file.write_text(default.replace(PER_TOKEN, TIERS_OF_TOKENS))
        world.record(world.event(meter="tokens", quantity=250_000))
        world.drain()

        where = {"database_url": servers.database_url, "redis_url": servers.redis_url}
        with running_app(world, tmp_path, catalog=file, **where) as app:
            page = words(logged_in(app).open(PAGE).text)

        assert "250,000 tokens used, 100,000 included: 150,000 tokens in tiers." in page
        assert "Up to 100,000 100,000 × $0.0001 $10.00 The rest 50,000 × $0.00005 + $1.00 $3.50" in page
        assert "Total so far $62.50" in page

    def test_a_level_shows_what_it_is_billed_by(self, app: Flask, world: World, acme: Customer) -> None:
        """Seats by the most of a day: one that was given back the same day was one all the same."""
        for quantity in (1, -1):
            world.record(world.event(meter="seats", quantity=quantity))
        world.drain()
        world.advance(hours=1)

        page = words(logged_in(app).open(PAGE).text)

        assert re.search(r"Most on the day Nov 10 2 ", page), page

    def test_nothing_used_is_said(self, app: Flask, acme: Customer) -> None:
        page = words(logged_in(app).open(PAGE).text)

        assert "0 API calls used, 10,000 included: nothing to pay." in page
        assert "Nothing was used in this period yet." in page
        assert "No invoices yet" in page


class TestInvoices:
    def test_they_come_in_pages_and_money_given_back_is_below_zero(
        self, app: Flask, world: World, acme: Customer
    ) -> None:
        for place in range(30):
            total = Decimal(-7) if place == 29 else Decimal(place)
            invoiced(world.session, acme, world.now + timedelta(minutes=place), number=f"A-{place:04}", total=total)
        world.session.commit()
        owner = logged_in(app)

        first = owner.open(PAGE).text
        older = re.findall(r'href="([^"]+before=\d+)#invoices"', first)[0]

        assert "−$7.00" in first
        assert re.findall(r"A-\d{4}(?=</a>)", first)[:2] == ["A-0029", "A-0028"]
        assert re.findall(r"A-\d{4}(?=</a>)", owner.open(older).text) == [f"A-{place:04}" for place in range(5, -1, -1)]

    def test_one_of_somebody_else_is_none(self, app: Flask, world: World, acme: Customer) -> None:
        other = invoiced(world.session, world.customer("bravo", "pro"), world.now)
        draft = invoiced(world.session, acme, world.now, status="draft")
        world.session.commit()
        owner = logged_in(app)

        assert owner.open(f"{PAGE}/{other.id}").status_code == 404
        assert owner.open(f"{PAGE}/{draft.id}").status_code == 404

    def test_without_stripe_an_invoice_shows_what_is_known(self, app: Flask, world: World, acme: Customer) -> None:
        one = invoiced(world.session, acme, world.now, total=Decimal(-7), amount_due=Decimal(0))
        world.session.commit()

        page = words(logged_in(app).open(f"{PAGE}/{one.id}").text)

        assert "Stripe does not answer at the moment" in page
        assert "Total −$7.00 Kept as credit for the next invoices $7.00" in page


class TestAtStripe:
    @pytest.fixture
    def app(self, stripe_app: Flask) -> Flask:
        return stripe_app

    def test_an_invoice_agrees_with_our_own_figures_and_leads_to_stripes_page(self, shop: Shop) -> None:
        shop.buy("pro")
        shop.deliver()
        shop.books.use(12_000)
        shop.books.report_hours()
        shop.world.advance(days=30)
        shop.books.tell_time()
        shop.deliver()
        shop.world.advance(hours=2)
        shop.books.tell_time()
        shop.deliver()

        shop.log_in()
        latest, first = re.findall(r'href="(/c/acme/bill/\d+)"', shop.owner.open(PAGE).text)
        renewal, start = shop.owner.open(latest).text, shop.owner.open(first).text

        assert "API calls 12,000 API calls $2.00 $2.00" in words(renewal)
        assert "Equal" in renewal
        assert "Differs" not in renewal
        assert "Total $51.00 Paid $51.00" in words(renewal)
        assert "It bills no usage" in start
        hosted = re.findall(r'href="([^"]+)" rel="noopener">.*?View at Stripe', renewal, re.DOTALL)[0]
        assert hosted.startswith(shop.standin.url)
        page = requests.get(hosted, timeout=PATIENCE_SECONDS)
        assert page.status_code == 200
        assert "Total $51.00 Paid $51.00" in words(page.text)

    def test_what_differs_is_marked(self, shop: Shop) -> None:
        """Given usage that Stripe was never told of, then the invoice is not ours."""
        shop.buy("pro")
        shop.deliver()
        shop.books.use(12_000)
        shop.world.advance(days=30, hours=2)
        shop.books.tell_time()
        shop.deliver()

        shop.log_in()
        latest = re.findall(r'href="(/c/acme/bill/\d+)"', shop.owner.open(PAGE).text)[0]
        page = shop.owner.open(latest).text

        assert "API calls 12,000 API calls $2.00 $0.00" in words(page)
        assert "Differs" in page
