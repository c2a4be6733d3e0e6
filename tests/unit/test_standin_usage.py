"""What the stand-in counts, what it refuses to count, and what it says a customer used."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
import stripe

from tests.factories.standin import DAY, HOUR, InProcessStandin, make_meter, report, summaries

HOUR_START = 1_800_000_000
NOW = HOUR_START + HOUR + 1234.5


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[InProcessStandin]:
    standin = InProcessStandin(tmp_path, NOW)
    yield standin
    standin.close()


@pytest.fixture
def client(standin: InProcessStandin) -> stripe.StripeClient:
    return standin.client()


@pytest.fixture
def customer(client: stripe.StripeClient) -> str:
    return client.v1.customers.create().id


@pytest.fixture
def meter(client: stripe.StripeClient) -> stripe.billing.Meter:
    return make_meter(client, "api_call")


class TestMeterEvents:
    @pytest.mark.parametrize(
        ("seconds", "code"),
        [(-35 * DAY - 60, "timestamp_too_far_in_past"), (5 * 60 + 60, "timestamp_in_future")],
    )
    def test_a_timestamp_outside_the_window_is_refused(self, standin, client, customer, meter, seconds, code):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            report(client, customer, int(NOW) + seconds)

        assert (refused.value.code, refused.value.param) == (code, "timestamp")
        assert standin.total("api_call") is None

    @pytest.mark.parametrize("seconds", [-35 * DAY + 60, 5 * 60 - 60])
    def test_a_timestamp_inside_the_window_is_counted(self, standin, client, customer, meter, seconds):
        report(client, customer, int(NOW) + seconds)

        assert standin.total("api_call") == "1"

    def test_an_event_without_an_active_meter_is_refused(self, client, customer, meter):
        client.v1.billing.meters.deactivate(meter.id)

        with pytest.raises(stripe.InvalidRequestError, match="No active meter") as refused:
            report(client, customer, HOUR_START)

        assert (refused.value.http_status, refused.value.param) == (400, "event_name")

    @pytest.mark.parametrize(
        ("payload", "code"),
        [
            ({"value": "1"}, "meter_event_no_customer_defined"),
            ({"stripe_customer_id": "cus_nobody", "value": "1"}, "meter_event_customer_not_found"),
            ({"stripe_customer_id": "customer"}, "meter_event_value_not_found"),
            ({"stripe_customer_id": "customer", "value": "many"}, "meter_event_invalid_value"),
            ({"stripe_customer_id": "customer", "value": "NaN"}, "meter_event_invalid_value"),
            ({"stripe_customer_id": "customer", "value": "1234567890.123456"}, "meter_event_value_too_many_digits"),
        ],
    )
    def test_what_stripe_finds_out_later_is_accepted_and_listed_as_an_error(
        self, standin, client, customer, meter, payload, code
    ):
        if payload.get("stripe_customer_id") == "customer":
            payload = {**payload, "stripe_customer_id": customer}

        client.v1.billing.meter_events.create(
            {"event_name": "api_call", "payload": payload, "identifier": "bad", "timestamp": HOUR_START}
        )

        (error,) = standin.inspect("errors")["errors"]
        assert (error["code"], error["count"], error["identifiers"]) == (code, 1, ["bad"])
        assert standin.total("api_call") is None

    def test_totals_are_exact_where_binary_floats_are_not(self, standin, client, customer, meter):
        for value in ("0.1", "0.2", "999999999999999", "-0.3"):
            report(client, customer, HOUR_START, value)

        assert Decimal(standin.total("api_call")) == Decimal("999999999999999.0")

    def test_totals_are_kept_apart_by_customer_meter_and_hour(self, standin, client, customer, meter):
        other = client.v1.customers.create().id
        make_meter(client, "tokens")
        report(client, customer, HOUR_START, "1")
        report(client, customer, HOUR_START + HOUR - 1, "2")
        report(client, customer, HOUR_START - 1, "4")
        report(client, other, HOUR_START, "8")
        report(client, customer, HOUR_START, "16", event_name="tokens")

        totals = standin.inspect("totals")["totals"]

        assert {(t["event_name"], t["customer"], t["hour"]): t["total"] for t in totals} == {
            ("api_call", customer, HOUR_START): "3",
            ("api_call", customer, HOUR_START - HOUR): "4",
            ("api_call", other, HOUR_START): "8",
            ("tokens", customer, HOUR_START): "16",
        }


class TestAdjustments:
    def cancel(self, client, identifier, event_name="api_call"):
        return client.v1.billing.meter_event_adjustments.create(
            {"event_name": event_name, "type": "cancel", "cancel": {"identifier": identifier}}
        )

    def test_a_cancelled_event_counts_nowhere(self, standin, client, customer, meter):
        report(client, customer, HOUR_START, "5", "kept")
        report(client, customer, HOUR_START, "7", "cancelled")

        adjustment = self.cancel(client, "cancelled")

        assert (adjustment.object, adjustment.status) == ("billing.meter_event_adjustment", "complete")
        assert standin.total("api_call") == "5"
        assert summaries(client, meter.id, customer, HOUR_START, HOUR_START + HOUR).data[0].aggregated_value == 5.0

    def test_an_event_received_more_than_24_hours_ago_stays(self, standin, client, customer, meter):
        report(client, customer, HOUR_START, "7", "old")
        standin.now += DAY + 1

        with pytest.raises(stripe.InvalidRequestError, match="24 hours"):
            self.cancel(client, "old")

        assert standin.total("api_call") == "7"

    @pytest.mark.parametrize(("identifier", "event_name"), [("never-sent", "api_call"), ("sent", "tokens")])
    def test_an_event_that_is_not_there_cannot_be_cancelled(self, client, customer, meter, identifier, event_name):
        report(client, customer, HOUR_START, identifier="sent")

        with pytest.raises(stripe.InvalidRequestError) as refused:
            self.cancel(client, identifier, event_name)

        assert refused.value.code == "resource_missing"


class TestEventSummaries:
    @pytest.mark.parametrize(("formula", "expected"), [("sum", 6.5), ("count", 3.0), ("last", 1.5)])
    def test_each_formula_adds_up_as_it_says(self, client, customer, formula, expected):
        meter = make_meter(client, "api_call", formula)
        for second, value in ((10, "1.5"), (0, "3"), (5, "2")):
            report(client, customer, HOUR_START + second, value)

        (summary,) = summaries(client, meter.id, customer, HOUR_START, HOUR_START + HOUR).data

        assert summary.aggregated_value == expected
        assert (summary.start_time, summary.end_time, summary.meter) == (HOUR_START, HOUR_START + HOUR, meter.id)

    def test_the_end_is_exclusive(self, client, customer, meter):
        report(client, customer, HOUR_START + 59, "1")
        report(client, customer, HOUR_START + 60, "2")

        (summary,) = summaries(client, meter.id, customer, HOUR_START, HOUR_START + 60).data

        assert summary.aggregated_value == 1.0

    def test_hours_come_newest_first_in_pages_of_at_most_100(self, client, customer, meter):
        hours = [HOUR_START - n * HOUR for n in range(103)]
        for at in hours:
            report(client, customer, at, str(at % 97))

        first = summaries(
            client, meter.id, customer, hours[-1], HOUR_START + HOUR, value_grouping_window="hour", limit=100
        )
        everything = list(first.auto_paging_iter())

        assert (len(first.data), first.has_more) == (100, True)
        assert [(s.start_time, s.aggregated_value) for s in everything] == [(at, at % 97) for at in hours]

    def test_days_are_utc_days(self, client, customer, meter):
        day = HOUR_START // DAY * DAY
        report(client, customer, day - 1, "1")
        report(client, customer, day, "2")

        found = summaries(client, meter.id, customer, day - DAY, day + DAY, value_grouping_window="day").data

        assert [(s.start_time, s.aggregated_value) for s in found] == [(day, 2.0), (day - DAY, 1.0)]

    @pytest.mark.parametrize(
        ("start", "end", "window", "param"),
        [
            (1, 120, None, "start_time"),
            (0, 61, None, "end_time"),
            (60, HOUR, "hour", "start_time"),
            (0, HOUR, "day", "end_time"),
            (HOUR, HOUR, None, "end_time"),
        ],
    )
    def test_a_range_that_is_not_aligned_is_refused(self, client, customer, meter, start, end, window, param):
        day = HOUR_START // DAY * DAY
        more = {"value_grouping_window": window} if window else {}

        with pytest.raises(stripe.InvalidRequestError) as refused:
            summaries(client, meter.id, customer, day + start, day + end, **more)

        assert refused.value.param == param

    def test_events_show_only_after_the_set_delay_while_totals_show_them_at_once(
        self, standin, client, customer, meter
    ):
        standin.set("delay", seconds=300)
        report(client, customer, HOUR_START, "4")
        assert summaries(client, meter.id, customer, HOUR_START, HOUR_START + HOUR).data[0].aggregated_value == 0.0
        assert standin.total("api_call") == "4"

        standin.now += 300

        assert summaries(client, meter.id, customer, HOUR_START, HOUR_START + HOUR).data[0].aggregated_value == 4.0

    def test_an_unknown_customer_or_meter_is_refused(self, client, customer, meter):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            summaries(client, meter.id, "cus_nobody", HOUR_START, HOUR_START + HOUR)
        assert (refused.value.http_status, refused.value.param) == (400, "customer")

        with pytest.raises(stripe.InvalidRequestError) as refused:
            summaries(client, "mtr_none", customer, HOUR_START, HOUR_START + HOUR)
        assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")
