"""From the button on the plan page to Stripe's invoice, and back to the free plan, over the stand-in."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import select

from metering.embedded import Addresses
from metering.models import AuditEntry, StripeReport, StripeSubscription
from metering.store.verify import verify
from metering.stripe_sync.gateway import STANDIN
from tests.conftest import running_app
from tests.factories.people import Visitor, make_user
from tests.factories.shop import Shop
from tests.factories.world import World


@pytest.fixture
def app(stripe_app: Flask) -> Flask:
    return stripe_app


def minute(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M}"


def agree(shop: Shop) -> None:
    shop.world.session.commit()
    checks = verify(shop.engine, shop.world.redis)
    assert [(one.name, one.differences[:3], one.fault) for one in checks if not one.holds] == []


class TestBuying:
    def test_what_was_bought_is_served_as_soon_as_stripe_says_so(self, shop: Shop) -> None:
        assert "Upgrade to Pro" in shop.page().text

        back = shop.buy("pro")

        assert shop.plan() == "free", "money may yet fail: nothing is believed but Stripe's message"
        waiting = shop.owner.open(Shop.path(back))
        assert "as soon as Stripe has confirmed it" in waiting.text
        assert 'hx-trigger="every 2s"' in waiting.text
        poll = waiting.text.partition('hx-get="')[2].partition('"')[0].replace("&amp;", "&")
        before = shop.owner.partial(poll)
        assert (before.status_code, before.headers.get("HX-Redirect")) == (204, None)

        shop.deliver()

        assert shop.plan() == "pro"
        start = minute(shop.subscription().start_date)
        assert shop.spans()[:2] == [("2026-11-01T00:00", start, "free"), (start, "2026-12-10T12:00", "pro")]
        landed = shop.owner.open(shop.owner.partial(poll).headers["HX-Redirect"])
        assert "Pro plan" in landed.text
        assert "every 2s" not in landed.text, "there is nothing left to wait for"
        agree(shop)

    def test_the_page_lets_browsers_go_to_stripe_and_nowhere_else(self, shop: Shop) -> None:
        policy = shop.page().headers["Content-Security-Policy"]

        assert f"form-action 'self' {shop.standin.url};" in policy
        assert "form-action 'self';" in shop.owner.open("/c/acme/keys").headers["Content-Security-Policy"]

    def test_messages_in_any_order_and_twice_make_the_same_of_it(self, shop: Shop) -> None:
        shop.buy("pro")

        types = shop.deliver(shuffle=True, copies=3)
        spans, version = shop.spans(), shop.acme().state_version
        shop.deliver(shuffle=True, copies=2)

        assert {"checkout.session.completed", "customer.subscription.created", "invoice.paid"} <= set(types)
        assert (shop.spans(), shop.acme().state_version) == (spans, version)
        assert shop.plan() == "pro"

    def test_a_second_subscription_is_not_sold(self, shop: Shop) -> None:
        shop.buy("pro")
        shop.deliver()

        assert "Upgrade to" not in shop.page().text
        shop.press("checkout", plan="enterprise")
        assert "You have a plan already" in shop.page().text

    def test_another_plan_is_served_at_once(self, shop: Shop) -> None:
        shop.buy("pro")
        shop.deliver()

        assert "Switch to Enterprise" in shop.page().text
        shop.press("change", plan="enterprise")

        assert shop.plan() == "enterprise"
        assert "Enterprise plan" in shop.page().text
        shop.deliver()
        assert shop.plan() == "enterprise"
        agree(shop)

    @pytest.mark.parametrize("role", ["member", "viewer"])
    def test_only_owners_and_admins_buy(self, shop: Shop, role: str) -> None:
        other = shop.colleague(role)

        assert "Upgrade to" not in other.open("/c/acme/plan").text
        shop.app.config["WTF_CSRF_ENABLED"] = False
        for action in ("checkout", "change", "portal", "cancel", "resume"):
            assert other.client.post(f"/c/acme/plan/{action}", data={"plan": "pro"}).status_code == 403

    def test_a_plan_that_is_not_sold_is_not_bought(self, shop: Shop) -> None:
        for wanted in ("free", "nonsense", ""):
            answer = shop.press("checkout", plan=wanted)
            assert answer.location.endswith("/c/acme/plan")
        assert "This plan is not sold here" in shop.page().text

    def test_a_customer_is_made_at_stripe_once_and_audited(self, shop: Shop) -> None:
        shop.press("checkout", plan="pro")
        shop.press("checkout", plan="pro")

        (theirs,) = shop.client.v1.customers.list().data
        assert theirs.metadata.to_dict() == {"metering_customer": "acme"}
        assert shop.acme().stripe_customer_id == theirs.id
        links = select(AuditEntry).where(AuditEntry.action == "stripe.customer")
        (entry,) = shop.world.session.scalars(links)
        assert (entry.actor, entry.detail["how"]) == ("user:owner@acme.example", "created")

    def test_payment_is_managed_at_stripe(self, shop: Shop) -> None:
        assert "Manage payment" not in shop.page().text, "nothing was bought yet"
        shop.buy("pro")
        shop.deliver()

        assert "Manage payment" in shop.page().text
        assert shop.press("portal").location.startswith(f"{shop.standin.url}/p/session/")

    def test_while_stripe_is_away_the_page_says_so(self, shop: Shop) -> None:
        shop.standin.kill()

        answer = shop.owner.submit("/c/acme/plan", "/c/acme/plan/checkout", plan="pro")

        assert answer.location.endswith("/c/acme/plan")
        assert "Stripe does not answer at the moment" in shop.page().text


class TestBilling:
    def test_usage_is_owed_from_the_start_on(self, shop: Shop) -> None:
        """Given usage on the free plan and on the bought one, within one hour, when hours are reported, then Stripe is
        told of the latter alone, with a time within its period."""
        shop.world.advance(minutes=5)
        shop.books.tell_time()
        shop.books.use(7)
        shop.world.advance(minutes=5)
        shop.books.tell_time()
        shop.buy("pro")
        shop.books.use(11)
        shop.deliver()
        shop.books.use(13)

        shop.books.report_hours()

        rows = shop.books.rows("accepted")
        api_calls = [row for row in rows if row.event_name == "api_call"]
        assert [(row.value, row.timestamp) for row in api_calls] == [(24, shop.world.periods()[1].starts_at)]
        agree(shop)

    def test_a_customer_that_never_bought_is_not_reported(self, shop: Shop) -> None:
        shop.books.use(7)

        shop.books.report_hours()

        assert shop.world.session.scalars(select(StripeReport)).all() == []

    def test_periods_renew_and_invoices_are_listed(self, shop: Shop) -> None:
        shop.buy("pro")
        shop.deliver()
        shop.books.use(12_000)
        shop.books.report_hours()
        shop.world.advance(days=30)
        shop.books.tell_time()
        shop.deliver(shuffle=True, copies=2)
        shop.world.advance(hours=2)
        shop.books.tell_time()
        shop.deliver(shuffle=True)

        assert [one[:2] for one in shop.spans()][1:3] == [
            ("2026-11-10T12:00", "2026-12-10T12:00"),
            ("2026-12-10T12:00", "2027-01-10T12:00"),
        ]
        assert shop.plan() == "pro"
        key = shop.world.key(shop.customer, "usage:read")
        answer = shop.app.test_client().get("/api/v1/invoices", headers={"Authorization": f"Bearer {key.secret}"})
        latest, first = answer.json["items"]
        assert [one["total"] for one in (latest, first)] == ["51.00", "49.00"]
        assert {one["status"] for one in (latest, first)} == {"paid"}
        shop.log_in()
        page = shop.owner.open("/c/acme/bill").text
        assert "$51.00" in page
        assert latest["number"] in page
        agree(shop)

    def test_a_payment_that_fails_is_shown_and_the_plan_goes_on(self, shop: Shop) -> None:
        shop.buy("pro")
        shop.deliver()
        stripe_id = shop.acme().stripe_customer_id
        shop.client.v1.customers.update(stripe_id, {"metadata": {"standin_payment": "fail"}})

        for _ in range(2):
            shop.world.advance(days=30, hours=2)
            shop.books.tell_time()
            shop.deliver()
            if shop.world.session.scalars(select(StripeSubscription.status)).one() == "past_due":
                break

        assert shop.world.session.scalars(select(StripeSubscription.status)).one() == "past_due"
        assert shop.plan() == "pro"
        shop.log_in()
        assert "The last payment did not go through" in shop.page().text


class TestCancelling:
    def test_at_the_end_of_the_period(self, shop: Shop) -> None:
        shop.buy("pro")
        shop.deliver()

        shop.press("cancel")

        assert shop.spans()[1:] == [
            ("2026-11-10T12:00", "2026-12-10T12:00", "pro"),
            ("2026-12-10T12:00", "2027-01-01T00:00", "free"),
        ]
        assert shop.plan() == "pro"
        assert "Ends" in shop.page().text

        shop.press("resume")
        assert [one[2] for one in shop.spans()] == ["free", "pro", "pro"]
        shop.press("cancel")

        shop.world.advance(days=30, minutes=1)
        shop.books.tell_time()
        shop.deliver()
        assert shop.plan() == "free"
        shop.log_in()
        assert "Upgrade to Pro" in shop.page().text
        agree(shop)

    def test_at_once_with_a_bill_for_what_was_used(self, shop: Shop) -> None:
        shop.buy("pro")
        shop.deliver()
        shop.books.use(12_000)
        shop.books.report_hours()
        shop.world.advance(days=1)
        shop.books.tell_time()

        shop.press("cancel", when="now")

        assert shop.plan() == "free"
        assert shop.spans()[1][1] == minute(shop.subscription().ended_at)
        shop.books.use(5)
        shop.books.report_hours()
        assert sum(row.value for row in shop.books.rows("accepted") if row.event_name == "api_call") == 12_000
        shop.deliver()
        amounts = [one.total for one in shop.client.v1.invoices.list().data]
        assert len(amounts) == 2, amounts
        assert {row.account for row in shop.books.rows()} == {STANDIN}
        agree(shop)

    def test_a_cancellation_in_the_portal_is_followed(self, shop: Shop) -> None:
        shop.buy("pro")
        shop.deliver()
        shop.world.advance(hours=3)
        shop.books.tell_time()
        (subscription,) = shop.client.v1.subscriptions.list().data

        shop.client.v1.subscriptions.cancel(subscription.id, {"invoice_now": True})
        shop.deliver()

        assert shop.plan() == "free"
        assert int(shop.world.periods()[1].ends_at.timestamp()) == shop.subscription().ended_at


def test_without_stripe_the_page_says_who_changes_plans(world: World, servers: Addresses, tmp_path: Path) -> None:
    with running_app(world, tmp_path, database_url=servers.database_url, redis_url=servers.redis_url) as app:
        make_user(world, "owner@acme.example", world.customer("acme", "free"))
        owner = Visitor.of(app)
        owner.log_in("owner@acme.example")

        page = owner.open("/c/acme/plan")

    assert page.status_code == 200
    assert "Plans are not sold here" in page.text
    assert "Upgrade to" not in page.text
