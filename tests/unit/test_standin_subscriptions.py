"""Subscriptions of the stand-in: how they start, change, pass from period to period and end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stripe

from tests.factories.standin import DAY, HOUR, InProcessStandin, make_meter, report
from tests.factories.standin_billing import Shop, at, billed, item, shown, span

START = at("2027-01-31T09:30")


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[InProcessStandin]:
    standin = InProcessStandin(tmp_path, START)
    yield standin
    standin.close()


@pytest.fixture
def client(standin: InProcessStandin) -> stripe.StripeClient:
    return standin.client()


@pytest.fixture
def shop(client: stripe.StripeClient) -> Shop:
    return Shop(client, START)


@pytest.fixture
def base(shop: Shop) -> str:
    return shop.price(unit_amount=2000)


@pytest.fixture
def meter(client: stripe.StripeClient) -> str:
    return make_meter(client, "api_call").id


class TestStart:
    def test_it_is_active_and_its_first_period_is_paid_at_once(self, shop, base):
        subscription = shop.subscribe({"price": base, "quantity": 3}, metadata={"plan": "pro"})

        assert (subscription.status, subscription.currency) == ("active", "usd")
        assert span(subscription) == ("2027-01-31T09:30", "2027-02-28T09:30")
        assert item(subscription).price.id == base
        assert item(subscription).plan.id == base
        (invoice,) = shop.invoices()
        assert subscription.latest_invoice == invoice.id
        assert (invoice.status, invoice.billing_reason, invoice.amount_paid) == ("paid", "subscription_create", 6000)
        assert billed(invoice) == [("3 × API (at $20.00 / month)", 6000)]
        assert shop.fresh(subscription).to_dict() == subscription.to_dict()

    def test_one_of_usage_alone_starts_without_an_invoice(self, shop, meter):
        subscription = shop.subscribe(shop.metered(meter, unit_amount=1))

        assert (subscription.status, subscription.latest_invoice) == ("active", None)
        assert shop.invoices() == []
        assert "quantity" not in item(subscription)

    def test_up_to_an_anchor_it_is_billed_for_the_days_until_then(self, shop, base):
        subscription = shop.subscribe(base, billing_cycle_anchor=at("2027-02-14T09:30"))

        assert span(subscription) == ("2027-01-31T09:30", "2027-02-14T09:30")
        (invoice,) = shop.invoices()
        assert billed(invoice) == [("Remaining time on 1 × API after 31 Jan 2027", 903)]  # 14 of 31 days: 903.2…
        shop.pass_to("2027-02-14T09:30")
        assert span(shop.fresh(subscription)) == ("2027-02-14T09:30", "2027-03-14T09:30")

    def test_a_trial_costs_nothing_and_sets_the_anchor(self, shop, base, meter):
        subscription = shop.subscribe(base, shop.metered(meter, unit_amount=1), trial_period_days=14)

        assert (subscription.status, shown(subscription.billing_cycle_anchor)) == ("trialing", "2027-02-14T09:30")
        assert [(i.amount_due, i.status) for i in shop.invoices()] == [(0, "paid")]
        report(shop.client, shop.customer, START + 60, "50")
        shop.pass_to("2027-02-14T09:30")
        begun = shop.fresh(subscription)
        assert (begun.status, span(begun)) == ("active", ("2027-02-14T09:30", "2027-03-14T09:30"))
        assert billed(shop.invoices()[-1]) == [("1 × API (at $20.00 / month)", 2000)]
        assert shop.events("customer.subscription.trial_will_end") == ["customer.subscription.trial_will_end"]

    def test_a_trial_ended_by_hand_begins_a_paid_period_now(self, shop, base):
        subscription = shop.subscribe(base, trial_end=at("2027-03-01"))
        shop.pass_to("2027-02-10")

        ended = shop.update(subscription, trial_end="now")

        assert (ended.status, span(ended)) == ("active", ("2027-02-10T00:00", "2027-03-10T00:00"))
        assert (shop.invoices()[-1].status, shop.invoices()[-1].amount_paid) == ("paid", 2000)

    def test_a_trial_is_moved(self, shop, base):
        subscription = shop.subscribe(base, trial_end=at("2027-03-01"))

        moved = shop.update(subscription, trial_end=at("2027-04-01"))

        assert (moved.status, span(moved)[1], shown(moved.trial_end)) == (
            "trialing",
            "2027-04-01T00:00",
            "2027-04-01T00:00",
        )

    @pytest.mark.parametrize(
        ("behavior", "status", "event"),
        [("pause", "paused", "customer.subscription.paused"), ("cancel", "canceled", "customer.subscription.deleted")],
    )
    def test_a_trial_that_ends_without_payment_method_ends_as_told(self, shop, base, behavior, status, event):
        shop.set_payment("none")
        settings = {"end_behavior": {"missing_payment_method": behavior}}
        subscription = shop.subscribe(base, trial_period_days=7, trial_settings=settings)

        shop.pass_to("2027-02-08")

        assert shop.fresh(subscription).status == status
        assert shop.events(event) == [event]

    def test_a_paused_one_is_resumed_with_a_period_of_its_own(self, shop, base):
        shop.set_payment("none")
        settings = {"end_behavior": {"missing_payment_method": "pause"}}
        subscription = shop.subscribe(base, trial_period_days=7, trial_settings=settings)
        shop.pass_to("2027-04-01")
        shop.set_payment("")

        resumed = shop.client.v1.subscriptions.resume(subscription.id)

        assert (resumed.status, span(resumed)) == ("active", ("2027-04-01T00:00", "2027-05-01T00:00"))
        assert shop.events("customer.subscription.resumed") == ["customer.subscription.resumed"]
        assert shop.invoices()[-1].amount_paid == 2000

    def test_a_first_payment_that_fails_leaves_it_incomplete_until_it_is_paid(self, shop, base):
        shop.set_payment("fail")
        subscription = shop.subscribe(base)
        (invoice,) = shop.invoices()
        assert (subscription.status, invoice.status) == ("incomplete", "open")

        shop.set_payment("")
        shop.client.v1.invoices.pay(invoice.id)

        assert shop.fresh(subscription).status == "active"

    def test_an_incomplete_one_expires_after_23_hours(self, shop, base):
        shop.set_payment("fail")
        subscription = shop.subscribe(base)

        shop.pass_to("2027-02-01T08:29")
        assert shop.fresh(subscription).status == "incomplete"
        shop.pass_to("2027-02-01T08:30")

        assert shop.fresh(subscription).status == "incomplete_expired"
        assert [i.status for i in shop.invoices()] == ["void"]

    def test_error_if_incomplete_makes_nothing(self, shop, base):
        shop.set_payment("fail")

        with pytest.raises(stripe.CardError, match="declined"):
            shop.subscribe(base, payment_behavior="error_if_incomplete")

        assert shop.client.v1.subscriptions.list({"customer": shop.customer, "status": "all"}).data == []

    @pytest.mark.parametrize(
        ("params", "param"),
        [
            ({"items": []}, "items"),
            ({"items": [{"price": "price_none"}]}, "items[0][price]"),
            ({"items": [{"quantity": 1}]}, "items[0][price]"),
            ({"customer": "cus_none"}, "customer"),
            ({"trial_end": START - 1}, "trial_end"),
            ({"trial_end": START + DAY, "trial_period_days": 3}, "trial_end"),
            ({"billing_cycle_anchor": START - 1}, "billing_cycle_anchor"),
            ({"billing_cycle_anchor": at("2027-03-01")}, "billing_cycle_anchor"),
            ({"cancel_at": START - 1}, "cancel_at"),
            ({"currency": "eur"}, "currency"),
            ({"discounts": [{"coupon": "x"}]}, "discounts"),
            ({"flavour": "mint"}, "flavour"),
        ],
    )
    def test_what_stripe_would_not_start_is_refused_and_not_made(self, shop, base, params, param):
        sent: Any = {"customer": shop.customer, "items": [{"price": base}], **params}

        with pytest.raises(stripe.InvalidRequestError) as refused:
            shop.client.v1.subscriptions.create(sent)

        assert (refused.value.http_status, refused.value.param) == (400, param)
        assert shop.client.v1.subscriptions.list({"customer": shop.customer}).data == []

    def test_prices_that_do_not_go_together_are_refused(self, shop, base, meter):
        used = shop.metered(meter, unit_amount=1)
        gone = shop.price(unit_amount=1, active=False)
        once = shop.client.v1.prices.create({"currency": "usd", "product": shop.product, "unit_amount": 1}).id
        euro = shop.price(unit_amount=1, currency="eur")
        for prices, message in (
            ([{"price": used, "quantity": 2}], "Quantity should not be specified"),
            ([base, base], "same price"),
            ([gone], "inactive"),
            ([once], "type=recurring"),
            ([base, euro], "currency"),
        ):
            with pytest.raises(stripe.InvalidRequestError, match=message):
                shop.subscribe(*prices)

    def test_a_customer_keeps_to_one_currency(self, shop, base):
        shop.subscribe(base)

        with pytest.raises(stripe.InvalidRequestError, match="cannot combine currencies"):
            shop.subscribe(shop.price(unit_amount=1, currency="eur"))


class TestPeriods:
    def test_periods_follow_the_calendar_from_the_anchor(self, shop, base):
        subscription = shop.subscribe(base)

        shop.pass_to("2027-02-28T09:29")
        assert span(shop.fresh(subscription)) == ("2027-01-31T09:30", "2027-02-28T09:30")
        shop.pass_to("2027-02-28T09:30")
        assert span(shop.fresh(subscription)) == ("2027-02-28T09:30", "2027-03-31T09:30")
        shop.pass_to("2027-06-15")
        assert span(shop.fresh(subscription)) == ("2027-05-31T09:30", "2027-06-30T09:30")
        assert [shown(invoice.created) for invoice in shop.invoices()] == [
            "2027-01-31T09:30",
            "2027-02-28T09:30",
            "2027-03-31T09:30",
            "2027-04-30T09:30",
            "2027-05-31T09:30",
        ]

    def test_without_a_test_clock_the_stand_ins_own_time_rules(self, standin, shop, base):
        shop.customer = shop.client.v1.customers.create({"name": "Bob"}).id
        subscription = shop.subscribe(base)

        standin.now = at("2027-02-28T09:30")
        assert span(shop.fresh(subscription))[0] == "2027-02-28T09:30"
        assert [i.status for i in shop.invoices()] == ["paid", "draft"]
        standin.set("clock", advance_seconds=HOUR)
        assert [i.status for i in shop.invoices()] == ["paid", "paid"]

    def test_time_is_not_lost_by_a_restart(self, tmp_path, standin, shop, base):
        subscription = shop.subscribe(base)
        standin.close()
        again = InProcessStandin(tmp_path, START)
        shop.client = again.client()

        shop.pass_to("2027-03-01")

        assert span(shop.fresh(subscription))[0] == "2027-02-28T09:30"
        again.close()

    def test_a_kill_at_any_moment_of_an_advance_is_made_up_for(self, tmp_path, standin, shop, base):
        shop.subscribe(base)
        journal = tmp_path / "journal.jsonl"
        before = len(journal.read_bytes().splitlines())
        shop.pass_to("2027-04-15")
        expected = [(i.status, i.total, i.created, i.status_transitions.paid_at) for i in shop.invoices()]
        standin.close()
        lines = journal.read_bytes().splitlines(keepends=True)
        assert len(lines) > before + 5

        for kept in range(before + 1, len(lines) + 1):
            folder = tmp_path / str(kept)
            folder.mkdir()
            (folder / journal.name).write_bytes(b"".join(lines[:kept]))
            again = InProcessStandin(folder, START)
            shop.client = again.client()

            assert shop.client.v1.test_helpers.test_clocks.retrieve(shop.clock).frozen_time == at("2027-04-15")
            found = [(i.status, i.total, i.created, i.status_transitions.paid_at) for i in shop.invoices()]
            assert found == expected
            again.close()

    def test_a_clock_goes_forward_only(self, shop):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            shop.client.v1.test_helpers.test_clocks.advance(shop.clock, {"frozen_time": START})

        assert refused.value.param == "frozen_time"

    def test_an_advance_is_answered_before_it_is_done(self, shop):
        advancing = shop.client.v1.test_helpers.test_clocks.advance(shop.clock, {"frozen_time": START + 1})

        assert advancing.status == "advancing"
        done = shop.client.v1.test_helpers.test_clocks.retrieve(shop.clock)
        assert (done.status, done.frozen_time) == ("ready", START + 1)

    def test_what_lives_by_a_clock_is_listed_only_with_it(self, shop, base):
        subscription = shop.subscribe(base)
        listed = shop.client.v1.subscriptions.list

        assert listed().data == []
        assert [s.id for s in listed({"customer": shop.customer}).data] == [subscription.id]
        assert [s.id for s in listed({"test_clock": shop.clock}).data] == [subscription.id]
        assert shop.client.v1.customers.list().data == []
        assert [c.id for c in shop.client.v1.customers.list({"test_clock": shop.clock}).data] == [shop.customer]


class TestChanges:
    def test_a_dearer_price_is_prorated_to_the_second_on_the_next_invoice(self, shop, base):
        subscription = shop.subscribe(base)
        shop.pass_to("2027-02-14T09:30")  # 14 of 28 days are left

        dearer = shop.price(unit_amount=5001)
        changed = shop.update(subscription, items=[{"id": item(subscription).id, "price": dearer}])

        assert item(changed).price.id == dearer
        assert span(changed) == ("2027-01-31T09:30", "2027-02-28T09:30")
        assert len(shop.invoices()) == 1
        shop.pass_to("2027-02-28T09:30")
        assert billed(shop.invoices()[-1]) == [
            ("Unused time on 1 × API after 14 Feb 2027", -1000),
            ("Remaining time on 1 × API after 14 Feb 2027", 2501),  # 2500.5
            ("1 × API (at $50.01 / month)", 5001),
        ]

    def test_always_invoice_bills_the_difference_at_once_and_none_never(self, shop, base):
        subscription = shop.subscribe(base)
        shop.pass_to("2027-02-14T09:30")

        shop.update(
            subscription, items=[{"id": item(subscription).id, "quantity": 3}], proration_behavior="always_invoice"
        )
        assert [(i.billing_reason, i.status, i.amount_paid) for i in shop.invoices()[1:]] == [
            ("subscription_update", "paid", 2000)
        ]
        shop.update(subscription, items=[{"id": item(subscription).id, "quantity": 9}], proration_behavior="none")
        shop.pass_to("2027-02-28T09:30")

        assert billed(shop.invoices()[-1]) == [("9 × API (at $20.00 / month)", 18000)]

    def test_credit_beyond_what_is_billed_is_kept_as_the_customers_balance(self, shop, base):
        subscription = shop.subscribe({"price": base, "quantity": 10})
        shop.pass_to("2027-02-14T09:30")
        shop.update(subscription, items=[{"id": item(subscription).id, "quantity": 1}])

        shop.pass_to("2027-02-28T10:30")

        credited = shop.invoices()[-1]  # -10000 + 1000 + 2000
        assert (credited.total, credited.amount_due, credited.status) == (-7000, 0, "paid")
        assert shop.client.v1.customers.retrieve(shop.customer).balance == -7000
        shop.pass_to("2027-03-31T10:30")
        assert (shop.invoices()[-1].total, shop.invoices()[-1].amount_due) == (2000, 0)
        assert shop.client.v1.customers.retrieve(shop.customer).balance == -5000

    def test_a_metered_price_that_is_replaced_is_billed_for_its_own_time(self, shop, meter):
        old, new = shop.metered(meter, unit_amount=1), shop.metered(meter, unit_amount=10)
        subscription = shop.subscribe(old)
        report(shop.client, shop.customer, START + 60, "7")
        shop.pass_to("2027-02-14T09:30")
        shop.update(subscription, items=[{"id": item(subscription).id, "price": new}])
        report(shop.client, shop.customer, at("2027-02-14T09:30"), "5")

        shop.pass_to("2027-02-28T10:30")

        assert billed(shop.invoices()[-1]) == [
            ("7 × API (at $0.01 / month)", 7),
            ("5 × API (at $0.10 / month)", 50),
        ]

    def test_another_interval_starts_a_period_now_and_gives_back_the_rest_of_the_old_one(self, shop, base):
        subscription = shop.subscribe(base)
        shop.pass_to("2027-02-14T09:30")  # 14 of 28 days are left
        yearly = shop.price(unit_amount=12000, recurring={"interval": "year"})

        changed = shop.update(subscription, items=[{"id": item(subscription).id, "price": yearly}])

        assert span(changed) == ("2027-02-14T09:30", "2028-02-14T09:30")
        final = shop.invoices()[-1]
        assert billed(final) == [
            ("Unused time on 1 × API after 14 Feb 2027", -1000),
            ("1 × API (at $120.00 / year)", 12000),
        ]
        assert (final.status, final.amount_paid) == ("paid", 11000)

    def test_the_billing_cycle_starts_anew_when_asked(self, shop, base, meter):
        subscription = shop.subscribe(base, shop.metered(meter, unit_amount=2))
        report(shop.client, shop.customer, START + 60, "21")
        shop.pass_to("2027-02-21T09:30")  # 7 of 28 days are left

        changed = shop.update(subscription, billing_cycle_anchor={"type": "now"})

        assert span(changed) == ("2027-02-21T09:30", "2027-03-21T09:30")
        assert [amount for _, amount in billed(shop.invoices()[-1])] == [-500, 42, 2000]
        shop.pass_to("2027-03-21T10:30")
        assert [amount for _, amount in billed(shop.invoices()[-1])] == [0, 2000]

    def test_items_come_and_go_one_at_a_time(self, shop, base, meter):
        subscription = shop.subscribe(base)
        items = shop.client.v1.subscription_items

        added = items.create({"subscription": subscription.id, "price": shop.metered(meter, unit_amount=1)})
        assert span(subscription) == (shown(added.current_period_start), shown(added.current_period_end))
        assert [i.id for i in items.list({"subscription": subscription.id}).data] == [item(subscription).id, added.id]
        assert items.update(added.id, {"metadata": {"a": "b"}}).metadata.to_dict() == {"a": "b"}
        assert items.retrieve(added.id).metadata.to_dict() == {"a": "b"}

        assert items.delete(added.id).deleted is True
        assert [i.id for i in shop.fresh(subscription)["items"].data] == [item(subscription).id]
        with pytest.raises(stripe.InvalidRequestError, match="at least one"):
            items.delete(item(subscription).id)
        with pytest.raises(stripe.InvalidRequestError, match="No such subscription_item"):
            items.retrieve(added.id)

    def test_a_pause_of_collection_voids_the_invoices_until_it_ends(self, shop, base):
        subscription = shop.subscribe(base)
        pause = {"behavior": "void", "resumes_at": at("2027-03-15")}

        assert shop.update(subscription, pause_collection=pause).status == "active"
        shop.pass_to("2027-03-31T10:30")

        assert [i.status for i in shop.invoices()] == ["paid", "void", "paid"]
        assert shop.fresh(subscription).pause_collection is None

    def test_a_pause_as_drafts_leaves_drafts(self, shop, base):
        subscription = shop.subscribe(base)
        shop.update(subscription, pause_collection={"behavior": "keep_as_draft"})

        shop.pass_to("2027-03-31T10:30")

        assert [(i.status, i.auto_advance) for i in shop.invoices()[1:]] == [("draft", False)] * 2


class TestEnd:
    def test_at_the_periods_end_the_usage_is_billed_and_no_new_period_begins(self, shop, base, meter):
        subscription = shop.subscribe(base, shop.metered(meter, unit_amount=2))
        report(shop.client, shop.customer, START + 60, "21")

        told = shop.update(subscription, cancel_at_period_end=True)
        assert (told.status, told.cancel_at_period_end, shown(told.cancel_at)) == ("active", True, "2027-02-28T09:30")
        shop.pass_to("2027-02-28T09:30")

        ended = shop.fresh(subscription)
        assert (ended.status, shown(ended.ended_at), shown(ended.canceled_at)) == (
            "canceled",
            "2027-02-28T09:30",
            "2027-01-31T09:30",
        )
        assert billed(shop.invoices()[-1]) == [("21 × API (at $0.02 / month)", 42)]
        assert shop.events("customer.subscription.deleted") == ["customer.subscription.deleted"]
        shop.pass_to("2027-05-01")
        assert len(shop.invoices()) == 2

    def test_it_can_be_kept_after_all(self, shop, base):
        subscription = shop.subscribe(base, cancel_at_period_end=True)

        kept = shop.update(subscription, cancel_at_period_end=False)
        shop.pass_to("2027-03-01")

        assert (kept.cancel_at, kept.canceled_at, shop.fresh(subscription).status) == (None, None, "active")

    def test_a_cancellation_at_once_gives_the_usage_up_by_default(self, shop, base, meter):
        subscription = shop.subscribe(base, shop.metered(meter, unit_amount=2))
        report(shop.client, shop.customer, START + 60, "21")
        shop.pass_to("2027-02-02")

        ended = shop.client.v1.subscriptions.cancel(subscription.id)

        assert (ended.status, shown(ended.ended_at)) == ("canceled", "2027-02-02T00:00")
        shop.pass_to("2027-03-02")
        assert len(shop.invoices()) == 1

    def test_invoice_now_bills_the_usage_so_far_and_prorate_gives_back_the_rest(self, shop, base, meter):
        subscription = shop.subscribe(base, shop.metered(meter, unit_amount=200))
        report(shop.client, shop.customer, START + 60, "21")
        shop.pass_to("2027-02-21T09:30")  # 7 of 28 days are left

        shop.client.v1.subscriptions.cancel(subscription.id, {"invoice_now": True, "prorate": True})

        final = shop.invoices()[-1]
        assert billed(final) == [
            ("21 × API (at $2.00 / month)", 4200),
            ("Unused time on 1 × API after 21 Feb 2027", -500),
        ]
        assert (final.status, final.amount_paid) == ("paid", 3700)

    def test_what_has_ended_changes_no_more(self, shop, base):
        subscription = shop.subscribe(base)
        shop.client.v1.subscriptions.cancel(subscription.id)

        with pytest.raises(stripe.InvalidRequestError, match="canceled subscription can only"):
            shop.update(subscription, cancel_at_period_end=True)
        assert shop.update(subscription, metadata={"a": "b"}).metadata.to_dict() == {"a": "b"}
        with pytest.raises(stripe.InvalidRequestError) as gone:
            shop.client.v1.subscriptions.cancel(subscription.id)
        assert (gone.value.http_status, gone.value.code) == (404, "resource_missing")

    def test_ended_ones_are_listed_by_status_only(self, shop, base):
        first, second = shop.subscribe(base), shop.subscribe(base)
        shop.client.v1.subscriptions.cancel(first.id)

        def listed(**params: Any) -> list[str]:
            filters: Any = {"customer": shop.customer, **params}
            return [s.id for s in shop.client.v1.subscriptions.list(filters).data]

        assert listed() == [second.id]
        assert listed(status="all") == [second.id, first.id]
        assert listed(status="canceled") == listed(status="ended") == [first.id]
        assert listed(price=base, status="active") == [second.id]
        assert listed(current_period_end={"gt": at("2027-02-28T09:30")}) == []
