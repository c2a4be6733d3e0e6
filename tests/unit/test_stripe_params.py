"""The judge of Stripe's parameters lets pass what the library's types allow, and refuses everything else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import stripe

from tests.factories.standin import HOUR, InProcessStandin, make_meter, report, summaries
from tests.factories.stripe_params import WrongParameters, faults_in, judged_requests, params_type

NOW = 1_800_000_000 - 1_800_000_000 % HOUR


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[InProcessStandin]:
    standin = InProcessStandin(tmp_path / "standin", NOW)
    yield standin
    standin.close()


def test_what_is_right_passes_and_is_told(standin: InProcessStandin) -> None:
    client = standin.client()
    with judged_requests() as judged:
        meter = make_meter(client, "api_call")
        customer = client.v1.customers.create({"name": "Acme", "metadata": {"key": "acme"}})
        report(client, customer.id, NOW, identifier="a")
        summaries(client, meter.id, customer.id, NOW - HOUR, NOW, value_grouping_window="hour")

    assert judged == [
        "post /v1/billing/meters",
        "post /v1/customers",
        "post /v1/billing/meter_events",
        f"get /v1/billing/meters/{meter.id}/event_summaries",
    ]


@pytest.mark.parametrize(
    ("params", "fault"),
    [
        ({"event_name": "a", "payload": {"value": 5}}, r"params\[payload\]\[value\] is 5, not str"),
        ({"event_name": "a"}, r"params\[payload\] is missing"),
        ({"event_name": "a", "payload": {}, "time": 1}, r"params\[time\] is unknown"),
        ({"event_name": "a", "payload": {}, "timestamp": 1.5}, "timestamp.* not int"),
        ({"event_name": "a", "payload": {}, "timestamp": True}, "timestamp.* not int"),
        ({"event_name": "a", "payload": {}, "idempotency_key": "x"}, "idempotency_key.* unknown"),
    ],
)
def test_what_is_wrong_is_refused_before_it_is_sent(standin: InProcessStandin, params: Any, fault: str) -> None:
    client = standin.client()
    make_meter(client, "a")
    with pytest.raises(WrongParameters, match=fault), judged_requests():
        client.v1.billing.meter_events.create(params)
    assert standin.inspect("events")["events"] == []


def test_a_wrong_one_is_told_even_if_it_was_caught(standin: InProcessStandin) -> None:
    wrong: Any = {"event_name": "a", "type": "delete"}
    with (
        pytest.raises(WrongParameters, match=r"'delete', not one of \('cancel',\)"),
        judged_requests(),
        suppress(Exception),
    ):
        standin.client().v1.billing.meter_event_adjustments.create(wrong)


def test_hashes_lists_and_words_are_looked_into() -> None:
    price = params_type(stripe.PriceService, "create")
    tiers: Any = {"currency": "usd", "tiers": [{"up_to": "inf"}, {"up_to": 5}], "recurring": {"interval": "month"}}
    assert list(faults_in(tiers, price)) == []
    assert list(faults_in({**tiers, "tiers": [{"up_to": "many"}]}, price))
    assert list(faults_in({**tiers, "recurring": {"interval": "fortnight"}}, price))
    assert list(faults_in({**tiers, "recurring": {}}, price)) == ["params[recurring][interval] is missing"]


def test_every_call_of_the_billing_api_has_a_type_that_is_understood() -> None:
    """A new version of the library whose types this cannot read would judge nothing."""
    services: list[Any] = [
        stripe.billing.MeterService,
        stripe.billing.MeterEventService,
        stripe.billing.MeterEventAdjustmentService,
        stripe.billing.MeterEventSummaryService,
        stripe.CustomerService,
        stripe.PriceService,
        stripe.ProductService,
        stripe.SubscriptionService,
        stripe.InvoiceService,
        stripe.checkout.SessionService,
        stripe.billing_portal.SessionService,
    ]
    for service in services:
        for method in ("create", "list", "update", "create_preview"):
            if hasattr(service, method):
                assert list(faults_in({"unheard_of": 1}, params_type(service, method)))
