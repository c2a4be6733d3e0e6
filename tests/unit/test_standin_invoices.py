"""Invoices of the stand-in: what they bill, until when usage is counted, and what follows a payment or its failure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stripe

from tests.factories.standin import HOUR, InProcessStandin, make_meter, report
from tests.factories.standin_billing import Shop, at, billed, shown

START = at("2027-01-31T09:30")
TIERS: tuple[dict[str, Any], ...] = (
    {"up_to": 1000, "unit_amount": 0},
    {"up_to": 5000, "unit_amount_decimal": "0.5", "flat_amount": 200},
    {"up_to": "inf", "unit_amount_decimal": "0.25"},
)


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
def meter(client: stripe.StripeClient) -> str:
    return make_meter(client, "api_call").id


def use(shop: Shop, value: str, text: str | None = None) -> None:
    report(shop.client, shop.customer, at(text) if text else START + 60, value)


def preview(shop: Shop, **more: Any) -> stripe.Invoice:
    params: Any = {"customer": shop.customer, **more}
    return shop.client.v1.invoices.create_preview(params)


class TestUsage:
    def test_graduated_tiers_make_a_line_each_and_the_base_fee_is_for_the_coming_period(self, shop, meter):
        shop.subscribe(shop.price(unit_amount=2000), shop.graduated(meter, *TIERS))
        use(shop, "6001")

        shop.pass_to("2027-02-28T10:30")

        invoice = shop.invoices()[-1]
        assert billed(invoice) == [
            ("1000 × API (Tier 1 at $0.00 / month)", 0),
            ("4000 × API (Tier 2 at $0.005 / month)", 2000),
            ("API (Tier 2 flat fee)", 200),
            ("1001 × API (Tier 3 at $0.0025 / month)", 250),  # 250.25
            ("1 × API (at $20.00 / month)", 2000),
        ]
        periods = {(shown(line.period.start), shown(line.period.end)) for line in invoice.lines.data[:4]}
        assert periods == {("2027-01-31T09:30", "2027-02-28T09:30")}
        coming = invoice.lines.data[4].period
        assert (shown(coming.start), shown(coming.end)) == ("2027-02-28T09:30", "2027-03-31T09:30")
        assert (shown(invoice.period_start), shown(invoice.period_end)) == ("2027-01-31T09:30", "2027-02-28T09:30")
        assert (invoice.subtotal, invoice.total, invoice.amount_due, invoice.amount_paid) == (4450, 4450, 4450, 4450)

    def test_volume_package_and_decimal_prices(self, shop, client, meter):
        storage = make_meter(client, "storage").id
        volume = shop.metered(meter, billing_scheme="tiered", tiers_mode="volume", tiers=list(TIERS))
        package = shop.metered(storage, unit_amount=300, transform_quantity={"divide_by": 100, "round": "up"})
        exact = shop.metered(storage, unit_amount_decimal="0.333")
        shop.subscribe(volume, package, exact)
        use(shop, "1001")
        report(client, shop.customer, START + 60, "100.5", event_name="storage")

        shop.pass_to("2027-02-28T10:30")

        assert billed(shop.invoices()[-1]) == [
            ("1001 × API (Tier 2 at $0.005 / month)", 501),  # 500.5
            ("API (Tier 2 flat fee)", 200),
            ("100.5 × API (at $3.00 per 100 / month)", 600),  # two packages
            ("100.5 × API (at $0.00333 / month)", 33),  # 33.4665
        ]

    def test_usage_belongs_to_the_period_that_its_timestamp_lies_in(self, shop, meter):
        shop.subscribe(shop.metered(meter, unit_amount=1))
        use(shop, "1", "2027-01-31T09:30")
        shop.pass_to("2027-02-28T09:29")
        use(shop, "10", "2027-02-28T09:29")
        use(shop, "100", "2027-02-28T09:30")
        report(shop.client, shop.customer, START - 1, "1000")

        shop.pass_to("2027-03-31T10:30")

        assert [invoice.total for invoice in shop.invoices()] == [11, 100]

    def test_late_usage_counts_until_the_invoice_is_finalised_and_never_after(self, shop, meter):
        shop.subscribe(shop.metered(meter, unit_amount=1))
        use(shop, "5")
        shop.pass_to("2027-02-28T09:30")
        (draft,) = shop.invoices()
        assert (draft.status, draft.total, draft.auto_advance) == ("draft", 5, True)
        assert shown(draft.automatically_finalizes_at) == "2027-02-28T10:30"

        shop.pass_to("2027-02-28T10:29")
        use(shop, "20", "2027-02-28T09:29")
        assert shop.invoices()[0].total == 25
        shop.pass_to("2027-02-28T10:30")
        use(shop, "300", "2027-02-28T09:29")

        (final,) = shop.invoices()
        assert (final.status, final.total, final.automatically_finalizes_at) == ("paid", 25, None)
        shop.pass_to("2027-03-31T10:30")
        assert [invoice.total for invoice in shop.invoices()] == [25, 0]

    def test_a_longer_grace_period_takes_usage_longer(self, standin, shop, meter):
        standin.set("finalization", seconds=72 * HOUR)
        shop.subscribe(shop.metered(meter, unit_amount=1))
        shop.pass_to("2027-03-03T09:29")
        use(shop, "5", "2027-02-28T09:29")

        shop.pass_to("2027-03-03T09:30")

        assert [(i.status, i.total) for i in shop.invoices()] == [("paid", 5)]

    def test_usage_below_zero_bills_nothing(self, shop, meter):
        shop.subscribe(shop.metered(meter, unit_amount=1))
        use(shop, "5")
        use(shop, "-8")

        shop.pass_to("2027-02-28T10:30")

        assert [(i.total, i.status) for i in shop.invoices()] == [(0, "paid")]

    def test_meters_that_count_or_take_the_last_value_bill_that(self, shop, client):
        calls, seats = make_meter(client, "calls", "count").id, make_meter(client, "seats", "last").id
        shop.subscribe(shop.metered(calls, unit_amount=3), shop.metered(seats, unit_amount=500))
        for place, value in enumerate(("9", "4")):
            report(client, shop.customer, START + place, value, event_name="calls")
            report(client, shop.customer, START + place, value, event_name="seats")

        shop.pass_to("2027-02-28T10:30")

        assert [amount for _, amount in billed(shop.invoices()[-1])] == [6, 2000]

    def test_a_cancelled_event_is_not_billed(self, shop, client, meter):
        shop.subscribe(shop.metered(meter, unit_amount=1))
        report(client, shop.customer, START, "7", "wrong")
        client.v1.billing.meter_event_adjustments.create(
            {"event_name": "api_call", "type": "cancel", "cancel": {"identifier": "wrong"}}
        )

        shop.pass_to("2027-02-28T10:30")

        assert shop.invoices()[-1].total == 0


class TestPreview:
    def test_it_shows_what_the_next_invoice_will_bill(self, shop, meter):
        subscription = shop.subscribe(shop.price(unit_amount=2000), shop.graduated(meter, *TIERS))
        use(shop, "1003")

        shown_now = preview(shop, subscription=subscription.id)

        assert [amount for _, amount in billed(shown_now)] == [0, 2, 200, 2000]
        assert shown(shown_now.period_end) == "2027-02-28T09:30"
        assert len(shop.invoices()) == 1
        shop.pass_to("2027-02-28T10:30")
        assert billed(shop.invoices()[-1]) == billed(shown_now)

    def test_it_knows_an_event_only_after_the_summaries_delay(self, standin, shop, meter):
        shop.subscribe(shop.metered(meter, unit_amount=1))
        standin.set("delay", seconds=300)
        use(shop, "5")

        assert preview(shop).total == 0
        standin.now += 300
        assert preview(shop).total == 5

    def test_of_a_cancellation_it_shows_the_usage_so_far(self, shop, meter):
        subscription = shop.subscribe(shop.price(unit_amount=2000), shop.metered(meter, unit_amount=1))
        use(shop, "5")

        shop.pass_to("2027-02-01")
        now = preview(shop, subscription=subscription.id, subscription_details={"cancel_now": True})
        assert now.total == 5
        shop.update(subscription, cancel_at_period_end=True)
        assert preview(shop, subscription=subscription.id).total == 5

    def test_without_anything_to_come_it_is_404(self, shop):
        subscription = shop.subscribe(shop.price(unit_amount=2000), cancel_at_period_end=True)
        for more in ({}, {"subscription": subscription.id}):
            with pytest.raises(stripe.InvalidRequestError) as none:
                preview(shop, **more)
            assert (none.value.http_status, none.value.code) == (404, "invoice_upcoming_none")

        with pytest.raises(stripe.InvalidRequestError, match="No upcoming invoices"):
            preview(shop, customer=shop.new_customer())


class TestPayment:
    def test_a_failed_renewal_is_past_due_until_it_is_paid(self, shop):
        subscription = shop.subscribe(shop.price(unit_amount=2000))
        shop.set_payment("fail")

        shop.pass_to("2027-02-28T10:30")

        unpaid = shop.invoices()[-1]
        assert (unpaid.status, unpaid.attempt_count, unpaid.amount_remaining) == ("open", 1, 2000)
        assert shown(unpaid.next_payment_attempt) == "2027-03-03T10:30"
        assert shop.fresh(subscription).status == "past_due"
        with pytest.raises(stripe.CardError) as declined:
            shop.client.v1.invoices.pay(unpaid.id)
        assert (declined.value.http_status, declined.value.code) == (402, "card_declined")
        assert shop.invoices()[-1].attempt_count == 2
        assert len(shop.events("invoice.payment_failed")) == 2
        shop.set_payment("")
        assert shop.client.v1.invoices.pay(unpaid.id).status == "paid"
        assert shop.fresh(subscription).status == "active"

    def test_only_the_latest_invoice_makes_it_active_again(self, shop):
        subscription = shop.subscribe(shop.price(unit_amount=2000))
        shop.set_payment("fail")
        shop.pass_to("2027-03-31T10:30")
        shop.set_payment("")
        _, older, latest = shop.invoices()

        shop.client.v1.invoices.pay(older.id)
        assert shop.fresh(subscription).status == "past_due"
        shop.client.v1.invoices.pay(latest.id)
        assert shop.fresh(subscription).status == "active"

    def test_it_is_tried_again_after_3_5_and_7_days(self, shop):
        subscription = shop.subscribe(shop.price(unit_amount=2000))
        shop.set_payment("fail")

        shop.pass_to("2027-03-20")

        unpaid = shop.invoices()[-1]
        assert (unpaid.attempt_count, unpaid.next_payment_attempt) == (4, None)
        assert len(shop.events("invoice.payment_failed")) == 4
        assert shop.fresh(subscription).status == "past_due"

    def test_a_retry_that_succeeds_makes_it_active_again(self, shop):
        subscription = shop.subscribe(shop.price(unit_amount=2000))
        shop.set_payment("fail")
        shop.pass_to("2027-02-28T10:30")
        shop.set_payment("")

        shop.pass_to("2027-03-03T10:30")

        assert (shop.invoices()[-1].status, shop.fresh(subscription).status) == ("paid", "active")

    def test_a_cancellation_stops_the_retries(self, shop):
        subscription = shop.subscribe(shop.price(unit_amount=2000))
        shop.set_payment("fail")
        shop.pass_to("2027-02-28T10:30")

        shop.client.v1.subscriptions.cancel(subscription.id)
        shop.pass_to("2027-03-20")

        assert (shop.invoices()[-1].status, shop.invoices()[-1].attempt_count) == ("open", 1)

    def test_open_invoices_are_voided_and_paid_ones_are_not(self, shop):
        shop.subscribe(shop.price(unit_amount=2000))
        shop.set_payment("fail")
        shop.pass_to("2027-02-28T10:30")
        first, second = shop.invoices()

        assert shop.client.v1.invoices.void_invoice(second.id).status == "void"
        assert shop.events("invoice.voided") == ["invoice.voided"]
        with pytest.raises(stripe.InvalidRequestError):
            shop.client.v1.invoices.void_invoice(first.id)
        with pytest.raises(stripe.InvalidRequestError, match="already paid"):
            shop.client.v1.invoices.pay(first.id)

    def test_a_draft_is_finalised_by_hand(self, shop, meter):
        shop.subscribe(shop.metered(meter, unit_amount=1))
        use(shop, "5")
        shop.pass_to("2027-02-28T09:30")
        (draft,) = shop.invoices()

        assert shop.client.v1.invoices.finalize_invoice(draft.id).status == "paid"
        with pytest.raises(stripe.InvalidRequestError, match="already finalized"):
            shop.client.v1.invoices.finalize_invoice(draft.id)


class TestReading:
    def test_invoices_are_listed_by_whose_they_are_and_how_they_stand(self, shop):
        base = shop.price(unit_amount=2000)
        first, second = shop.subscribe(base), shop.subscribe(base)
        shop.pass_to("2027-02-28T09:30")

        assert [i.status for i in shop.invoices(status="draft")] == ["draft", "draft"]
        of_second = shop.invoices(subscription=second.id)
        assert [i.status for i in of_second] == ["paid", "draft"]
        assert {i.parent.subscription_details.subscription for i in of_second} == {second.id}
        assert shop.client.v1.invoices.list({"customer": shop.new_customer()}).data == []
        assert shop.client.v1.invoices.retrieve(of_second[0].id).number == of_second[0].number
        assert first.id != second.id

    def test_an_invoice_shows_ten_lines_and_pages_show_all(self, shop, meter):
        tiers = [{"up_to": n, "unit_amount": n} for n in range(1, 12)] + [{"up_to": "inf", "unit_amount": 12}]
        shop.subscribe(shop.graduated(meter, *tiers))
        use(shop, "12")
        shop.pass_to("2027-02-28T10:30")

        (invoice,) = shop.invoices()

        assert (len(invoice.lines.data), invoice.lines.has_more) == (10, True)
        lines = list(shop.client.v1.invoices.line_items.list(invoice.id, {"limit": 5}).auto_paging_iter())
        assert [line.amount for line in lines] == list(range(1, 13))
        assert invoice.total == sum(range(1, 13))

    def test_a_line_says_which_price_and_item_it_is_of(self, shop, meter):
        price = shop.metered(meter, unit_amount_decimal="0.5")
        subscription = shop.subscribe(price)
        use(shop, "3")
        shop.pass_to("2027-02-28T10:30")

        (line,) = shop.invoices()[0].lines.data

        assert line.pricing.price_details.to_dict() == {"price": price, "product": shop.product}
        assert str(line.pricing.unit_amount_decimal) == "0.5"
        details = line.parent.subscription_item_details
        assert (details.subscription, details.subscription_item) == (subscription.id, subscription["items"].data[0].id)
        assert line.quantity == 3


class TestAnnouncements:
    def test_a_period_that_ends_is_announced_step_by_step(self, shop):
        shop.subscribe(shop.price(unit_amount=2000))
        before = len(shop.events("invoice.", "customer.subscription."))

        shop.pass_to("2027-02-28T10:30")

        assert shop.events("invoice.", "customer.subscription.")[before:] == [
            "invoice.upcoming",
            "invoice.created",
            "customer.subscription.updated",
            "invoice.finalized",
            "invoice.paid",
            "invoice.payment_succeeded",
        ]

    def test_an_event_carries_the_object_of_its_moment_with_the_time_of_the_clock(self, shop):
        shop.subscribe(shop.price(unit_amount=2000))
        shop.pass_to("2027-02-28T10:30")

        types = {event.type: event for event in reversed(shop.client.v1.events.list({"limit": 100}).data)}

        finalized = types["invoice.finalized"]
        assert (finalized.data.object["status"], shown(finalized.created)) == ("open", "2027-02-28T10:30")
        assert "id" not in types["invoice.upcoming"].data.object
        assert shown(types["invoice.upcoming"].created) == "2027-02-21T09:30"
        assert all(name[0] != "_" for name in types["customer.subscription.updated"].data.object.to_dict())


def test_what_is_due_within_one_jump_happens_in_its_order(shop, meter):
    shop.subscribe(shop.metered(meter, unit_amount=1))
    use(shop, "5")

    shop.pass_to("2027-06-30T09:30")

    assert [(i.total, i.status, shown(i.created)) for i in shop.invoices()] == [
        (5, "paid", "2027-02-28T09:30"),
        (0, "paid", "2027-03-31T09:30"),
        (0, "paid", "2027-04-30T09:30"),
        (0, "paid", "2027-05-31T09:30"),
        (0, "draft", "2027-06-30T09:30"),
    ]
    assert shop.invoices()[0].status_transitions.paid_at == at("2027-02-28T09:30") + HOUR
