"""Thin events and their destinations, and what is found wrong with meter events after the answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stripe
from stripe.events import (
    V1BillingMeterErrorReportTriggeredEventNotification,
    V1BillingMeterNoMeterFoundEventNotification,
)

from tests.factories.receiver import Receiver
from tests.factories.standin import DAY, HOUR, InProcessStandin, StandinProcess, make_meter, report

NOW = 1_800_000_000
REPORT = "v1.billing.meter.error_report_triggered"
NO_METER = "v1.billing.meter.no_meter_found"


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[InProcessStandin]:
    standin = InProcessStandin(tmp_path, NOW)
    yield standin
    standin.close()


@pytest.fixture
def client(standin: InProcessStandin) -> stripe.StripeClient:
    return standin.client()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def customer(client: stripe.StripeClient) -> str:
    return client.v1.customers.create().id


def destination_for(client: stripe.StripeClient, url: str, *types: str, **more: Any) -> Any:
    params: Any = {
        "name": "Meter errors",
        "type": "webhook_endpoint",
        "event_payload": "thin",
        "enabled_events": list(types) or ["*"],
        "webhook_endpoint": {"url": url},
        "include": ["webhook_endpoint.signing_secret", "webhook_endpoint.url"],
        **more,
    }
    return client.v2.core.event_destinations.create(params)


def counted_errors(event: Any) -> dict[str, int]:
    return {kind.code: kind.error_count for kind in event.data.reason.error_types}


class TestDestinations:
    def test_url_and_secret_are_answered_where_asked_for_and_the_secret_only_at_creation(self, client, receiver):
        made = destination_for(client, receiver.url, REPORT)
        assert made.webhook_endpoint.signing_secret.startswith("whsec_")
        assert made.webhook_endpoint.url == receiver.url

        plain = client.v2.core.event_destinations.retrieve(made.id)
        assert (plain.webhook_endpoint.url, plain.webhook_endpoint.signing_secret) == (None, None)
        assert (plain.status, plain.event_payload, plain.enabled_events) == ("enabled", "thin", [REPORT])
        asked: Any = {"include": ["webhook_endpoint.signing_secret"]}
        with pytest.raises(stripe.InvalidRequestError):
            client.v2.core.event_destinations.retrieve(made.id, asked)

    def test_one_is_changed_disabled_enabled_listed_and_deleted(self, client, receiver):
        made = destination_for(client, receiver.url, metadata={"a": "1", "b": "2"})
        service = client.v2.core.event_destinations

        changed = service.update(made.id, {"name": "Errors", "metadata": {"a": None}, "enabled_events": [NO_METER]})
        assert (changed.name, changed.enabled_events) == ("Errors", [NO_METER])
        assert changed.metadata is not None
        assert changed.metadata.to_dict() == {"b": "2"}
        off = service.disable(made.id)
        assert off.status_details is not None
        assert off.status_details.disabled is not None
        assert (off.status, off.status_details.disabled.reason) == ("disabled", "user")
        assert service.enable(made.id).status == "enabled"
        others = [destination_for(client, receiver.url).id for _ in range(4)]
        assert [one.id for one in service.list({"limit": 2}).auto_paging_iter()] == [*others[::-1], made.id]
        assert service.delete(made.id).id == made.id
        with pytest.raises(stripe.InvalidRequestError, match="No such event destination"):
            service.retrieve(made.id)

    def test_what_can_not_be_is_refused(self, client, receiver):
        for more in (
            {"type": "amazon_eventbridge"},
            {"enabled_events": ["customer.created"]},
            {"event_payload": "snapshot", "enabled_events": ["customer.create"]},
            {"colour": "red"},
            {"webhook_endpoint": {"url": "nowhere"}},
        ):
            with pytest.raises(stripe.InvalidRequestError):
                destination_for(client, receiver.url, **more)

    def test_a_ping_reaches_its_destination_and_no_other(self, standin, client, receiver):
        made, _ = destination_for(client, receiver.url, NO_METER), destination_for(client, receiver.url, NO_METER)

        pinged = client.v2.core.event_destinations.ping(made.id)
        standin.set("webhooks/deliver")

        (arrival,) = receiver.arrivals
        secret = made.webhook_endpoint.signing_secret
        notification: Any = client.parse_event_notification(arrival.body, arrival.signature, secret)
        assert (notification.id, notification.type) == (pinged.id, "v2.core.event_destination.ping")
        assert notification.fetch_related_object().id == made.id

    def test_thin_and_snapshot_events_keep_apart(self, standin, client, receiver):
        destination_for(client, receiver.url)
        destination_for(client, receiver.url, event_payload="snapshot")

        client.v1.customers.create()
        standin.set("async_validation", enabled=True)
        report(client, "cus_none", NOW)
        standin.set("error_reports")
        standin.set("webhooks/deliver")

        assert receiver.types == ["customer.created", NO_METER]


class TestErrorReports:
    def test_a_report_counts_every_failed_event_and_names_some(self, standin, client, customer, receiver):
        made = destination_for(client, receiver.url)
        meter = make_meter(client, "api_call")
        for number in range(12):
            report(client, "cus_none", NOW, identifier=f"stranger-{number}")
        report(client, customer, NOW, value="many", identifier="many")
        report(client, customer, NOW, value="5", identifier="fine")

        standin.set("error_reports")
        standin.set("webhooks/deliver")

        (arrival,) = receiver.arrivals
        assert "data" not in arrival.event
        secret = made.webhook_endpoint.signing_secret
        notification = client.parse_event_notification(arrival.body, arrival.signature, secret)
        assert isinstance(notification, V1BillingMeterErrorReportTriggeredEventNotification)
        assert notification.fetch_related_object().id == meter.id
        event = notification.fetch_event()
        assert event.data.developer_message_summary == "There are 13 invalid events"
        assert event.data.reason.error_count == 13
        assert counted_errors(event) == {"meter_event_customer_not_found": 12, "meter_event_invalid_value": 1}
        strangers, many = event.data.reason.error_types
        assert [sample.request.identifier for sample in many.sample_errors] == ["many"]
        assert {sample.request.identifier for sample in strangers.sample_errors} < {f"stranger-{n}" for n in range(12)}
        assert standin.total("api_call") == "5"

    def test_with_asynchronous_validation_every_event_is_answered_and_the_bad_ones_count_nothing(
        self, standin, client, customer, receiver
    ):
        make_meter(client, "api_call")
        old = make_meter(client, "old_call")
        client.v1.billing.meters.deactivate(old.id)
        standin.set("async_validation", enabled=True)

        report(client, customer, NOW, "7", "good")
        report(client, customer, NOW - 36 * DAY, identifier="past")
        report(client, customer, NOW + HOUR, identifier="future")
        report(client, customer, NOW, identifier="archived", event_name="old_call")
        report(client, customer, NOW, identifier="stranger", event_name="no_such_call")
        standin.set("error_reports")

        reports = client.v2.core.events.list().data
        found = [(event.type, counted_errors(event)) for event in reports]
        assert found == [
            (NO_METER, {"no_meter": 1}),
            (REPORT, {"archived_meter": 1}),
            (REPORT, {"timestamp_too_far_in_past": 1, "timestamp_in_future": 1}),
        ]
        assert standin.total("api_call") == "7"
        assert standin.total("old_call") is None

    def test_without_it_they_are_refused_at_once_and_nothing_is_reported(self, standin, client, customer):
        make_meter(client, "api_call")
        for event_name, timestamp in (("no_such_call", NOW), ("api_call", NOW - 36 * DAY), ("api_call", NOW + HOUR)):
            with pytest.raises(stripe.InvalidRequestError):
                report(client, customer, timestamp, event_name=event_name)

        standin.set("error_reports")

        assert client.v2.core.events.list().data == []

    def test_no_meter_is_told_without_a_related_object(self, standin, client, customer, receiver):
        made = destination_for(client, receiver.url, NO_METER)
        standin.set("async_validation", enabled=True)
        report(client, customer, NOW, identifier="lost", event_name="no_such_call")
        standin.set("error_reports")
        standin.set("webhooks/deliver")

        (arrival,) = receiver.arrivals
        secret = made.webhook_endpoint.signing_secret
        notification = client.parse_event_notification(arrival.body, arrival.signature, secret)
        assert isinstance(notification, V1BillingMeterNoMeterFoundEventNotification)
        (kind,) = notification.fetch_event().data.reason.error_types
        assert (kind.code, kind.sample_errors[0].request.identifier) == ("no_meter", "lost")

    def test_each_failure_is_reported_once(self, standin, client, customer):
        make_meter(client, "api_call")
        report(client, "cus_none", NOW, identifier="first")
        standin.set("error_reports")
        standin.set("error_reports")
        report(client, "cus_none", NOW, identifier="second")
        standin.set("error_reports")

        reports: Any = client.v2.core.events.list({"types": [REPORT]}).data
        named = [event.data.reason.error_types[0].sample_errors[0].request.identifier for event in reports]
        assert named == ["second", "first"]

    def test_events_are_chosen_by_meter_time_and_page(self, standin, client):
        meters = [make_meter(client, f"call_{number}").id for number in range(3)]
        for number in range(3):
            standin.now = NOW + number
            report(client, "cus_none", NOW, event_name=f"call_{number}")
            standin.set("error_reports")

        service = client.v2.core.events
        (one,) = service.list({"object_id": meters[1]}).data
        assert service.retrieve(one.id).to_dict() == one.to_dict()
        assert len(service.list({"created": {"gt": one.created}}).data) == 1
        assert len(list(service.list({"limit": 1}).auto_paging_iter())) == 3


def test_a_running_stand_in_reports_by_itself_after_a_restart_too(tmp_path, receiver):
    process = StandinProcess(tmp_path / "store")
    client = process.client()
    made = destination_for(client, receiver.url, REPORT)
    make_meter(client, "api_call")
    process.set("async_validation", enabled=False, report_after_seconds=3600)
    report(client, "cus_none", int(time.time()), identifier="lost")
    process.kill()
    process.start()
    assert receiver.arrivals == []

    process.set("async_validation", enabled=False, report_after_seconds=0)

    (arrival,) = receiver.wait_for(1)
    process.kill()
    client.parse_event_notification(arrival.body, arrival.signature, made.webhook_endpoint.signing_secret)
