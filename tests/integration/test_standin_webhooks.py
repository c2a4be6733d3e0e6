"""Events of the stand-in, and how it delivers them: read and verified with Stripe's own library."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import stripe
from stripe.params import WebhookEndpointCreateParams

from metering.stripe_sync.standin.destinations import snapshot_types
from tests.factories.receiver import PATIENCE_SECONDS, Receiver
from tests.factories.standin import DAY, HOUR, InProcessStandin, StandinProcess, make_meter, report

NOW = 1_800_000_000


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[InProcessStandin]:
    standin = InProcessStandin(tmp_path, NOW)
    yield standin
    standin.close()


@pytest.fixture
def client(standin: InProcessStandin) -> stripe.StripeClient:
    return standin.client()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[StandinProcess]:
    process = StandinProcess(tmp_path / "store")
    yield process
    process.kill()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def endpoint_for(client: stripe.StripeClient, receiver: Receiver, *types: str) -> stripe.WebhookEndpoint:
    enabled: Any = list(types) or ["*"]
    return client.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": enabled})


def deliveries(standin: Any, status: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = standin.inspect(f"webhooks?status={status}" if status else "webhooks")["deliveries"]
    return found


def wait_until_delivered(standin: StandinProcess, count: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(deliveries(standin, "delivered")) < count:
        assert time.monotonic() < deadline, deliveries(standin)


class TestEvents:
    def test_a_change_and_its_event_are_there_together_and_a_refused_change_announces_nothing(self, client):
        customer = client.v1.customers.create({"name": "Ada"})
        with pytest.raises(stripe.InvalidRequestError):
            client.v1.customers.update(customer.id, {"source": "tok_none"})

        (event,) = client.v1.events.list().data

        assert (event.type, event.created, event.object) == ("customer.created", NOW, "event")
        assert event.data.object.to_dict() == customer.to_dict()
        assert client.v1.events.retrieve(event.id).to_dict() == event.to_dict()

    def test_an_update_says_what_was_before_and_one_that_changed_nothing_is_not_announced(self, client):
        customer = client.v1.customers.create({"name": "Ada", "metadata": {"a": "1"}})
        client.v1.customers.update(customer.id, {"name": "Grace"})
        client.v1.customers.update(customer.id, {"name": "Grace"})

        updated, created = client.v1.events.list().data

        assert (updated.type, created.type) == ("customer.updated", "customer.created")
        assert updated.to_dict()["data"]["previous_attributes"] == {"name": "Ada"}
        assert "previous_attributes" not in created.data

    def test_events_are_chosen_by_type_time_and_page(self, standin, client):
        meter = make_meter(client, "api_call")
        client.v1.billing.meters.deactivate(meter.id)
        standin.now = NOW + HOUR
        client.v1.customers.create()

        def types(params: Any) -> list[str]:
            return [event.type for event in client.v1.events.list(params).data]

        assert types({}) == ["customer.created", "billing.meter.deactivated", "billing.meter.created"]
        assert types({"type": "billing.meter.*"}) == ["billing.meter.deactivated", "billing.meter.created"]
        assert types({"types": ["customer.created", "billing.meter.created"]}) == [
            "customer.created",
            "billing.meter.created",
        ]
        assert types({"created": {"gt": NOW}}) == ["customer.created"]
        assert len(list(client.v1.events.list({"limit": 1}).auto_paging_iter())) == 3
        with pytest.raises(stripe.InvalidRequestError, match="only specify one"):
            types({"type": "a", "types": ["b"]})
        with pytest.raises(stripe.InvalidRequestError, match="No such event"):
            client.v1.events.retrieve("evt_none")


class TestWebhookEndpoints:
    def test_the_secret_is_answered_once(self, client, receiver):
        made = endpoint_for(client, receiver, "customer.created")

        assert made.secret
        assert made.secret.startswith("whsec_")
        again = client.v1.webhook_endpoints.retrieve(made.id)
        assert "secret" not in again
        assert (again.url, again.enabled_events, again.status) == (receiver.url, ["customer.created"], "enabled")
        assert [("secret" in one, one.id) for one in client.v1.webhook_endpoints.list().data] == [(False, made.id)]

    def test_one_is_changed_disabled_and_deleted(self, client, receiver):
        made = endpoint_for(client, receiver)

        changed = client.v1.webhook_endpoints.update(
            made.id, {"url": "https://example.com/x", "enabled_events": ["invoice.paid"], "disabled": True}
        )
        assert (changed.url, changed.enabled_events, changed.status) == (
            "https://example.com/x",
            ["invoice.paid"],
            "disabled",
        )
        assert client.v1.webhook_endpoints.delete(made.id).deleted is True

        assert client.v1.webhook_endpoints.list().data == []
        for call in (client.v1.webhook_endpoints.retrieve, client.v1.webhook_endpoints.delete):
            with pytest.raises(stripe.InvalidRequestError, match="No such webhook endpoint"):
                call(made.id)

    def test_what_is_no_url_and_no_type_of_event_is_refused(self, client):
        for params, param in (
            ({"url": "example.com", "enabled_events": ["*"]}, "url"),
            ({"url": "https://example.com", "enabled_events": ["customer.subscription.create"]}, "enabled_events[0]"),
            ({"url": "https://example.com"}, "enabled_events"),
            ({"url": "https://example.com", "enabled_events": ["*"], "colour": "red"}, "colour"),
        ):
            with pytest.raises(stripe.InvalidRequestError) as refused:
                client.v1.webhook_endpoints.create(params)
            assert refused.value.param == param

    def test_the_types_of_events_are_those_of_the_library(self):
        (one_of,) = get_args(WebhookEndpointCreateParams.__annotations__["enabled_events"])

        assert snapshot_types() == set(get_args(one_of)) - {"*"}


class TestDelivery:
    def test_a_delivery_carries_the_event_and_a_signature_that_the_library_accepts(self, process, receiver):
        client = process.client()
        made = endpoint_for(client, receiver, "customer.created")
        customer = client.v1.customers.create({"name": "Adé"})
        client.v1.customers.update(customer.id, {"name": "not asked for"})

        (arrival,) = receiver.wait_for(1)

        event = client.construct_event(arrival.body, arrival.signature, made.secret)
        assert (event.type, event.data.object.id) == ("customer.created", customer.id)
        with pytest.raises(stripe.SignatureVerificationError):
            client.construct_event(arrival.body + b" ", arrival.signature, made.secret)
        with pytest.raises(stripe.SignatureVerificationError):
            client.construct_event(arrival.body, arrival.signature, "whsec_other")
        wait_until_delivered(process, 1)
        assert client.v1.events.retrieve(event.id).pending_webhooks == 0
        assert receiver.types == ["customer.created"]

    @pytest.mark.parametrize("days", [400, -400])
    def test_a_moved_clock_changes_the_events_but_not_the_signatures(self, standin, client, receiver, days):
        made = endpoint_for(client, receiver)
        standin.set("clock", advance_seconds=days * DAY)
        client.v1.customers.create()

        before = int(time.time())
        standin.set("webhooks/deliver")
        after = time.time()

        (arrival,) = receiver.arrivals
        assert client.construct_event(arrival.body, arrival.signature, made.secret).created == NOW + days * DAY
        assert before <= int(arrival.signature.split(",")[0].removeprefix("t=")) <= after

    def test_what_is_not_answered_2xx_is_sent_again_until_it_is(self, process, receiver):
        receiver.answers = lambda number: (500, 302, 204)[min(number, 2)]
        client = process.client()
        made = endpoint_for(client, receiver)
        client.v1.customers.create()

        first, *others = receiver.wait_for(3)

        wait_until_delivered(process, 1)
        (delivery,) = deliveries(process)
        assert (delivery["attempts"], delivery["answer"]) == (3, 204)
        assert [other.body for other in others] == [first.body, first.body]
        for arrival in (first, *others):
            assert arrival.path == "/hook"
            client.construct_event(arrival.body, arrival.signature, made.secret)

    def test_a_receiver_may_ask_the_stand_in_while_it_is_being_delivered_to(self, process, receiver):
        client = process.client()
        customers = [client.v1.customers.create().id]
        receiver.answers = lambda _: 200 if client.v1.customers.retrieve(customers[0]).id else 500
        endpoint_for(client, receiver)

        client.v1.customers.create()

        wait_until_delivered(process, 1)
        assert deliveries(process)[0]["attempts"] == 1

    def test_everything_is_delivered_twice_in_any_order_if_so_set(self, process, receiver):
        client = process.client()
        process.set("webhooks", copies=2, shuffle=True)
        endpoint_for(client, receiver)
        customers = [client.v1.customers.create().id for _ in range(5)]

        arrivals = receiver.wait_for(10)

        assert sorted(arrival.event["data"]["object"]["id"] for arrival in arrivals) == sorted(customers * 2)

    def test_a_restart_goes_on_with_what_was_not_delivered(self, process, receiver):
        client = process.client()
        endpoint_for(client, receiver)
        process.set("webhooks", hold=True)
        customers = [client.v1.customers.create().id for _ in range(3)]
        process.kill()
        process.start()
        assert (receiver.arrivals, process.inspect("webhooks")["hold"]) == ([], True)

        process.set("webhooks", hold=False)

        assert [arrival.event["data"]["object"]["id"] for arrival in receiver.wait_for(3)] == customers

    def test_a_receiver_that_is_away_is_tried_again_and_one_that_is_gone_is_given_up(self, standin, client, receiver):
        gone = endpoint_for(client, receiver)
        receiver.close()
        client.v1.customers.create()

        standin.set("webhooks/deliver")
        (delivery,) = deliveries(standin)
        assert (delivery["status"], delivery["attempts"]) == ("pending", 1)
        assert "refused" in delivery["answer"].lower()

        client.v1.webhook_endpoints.delete(gone.id)
        standin.set("webhooks/deliver")
        assert deliveries(standin)[0]["status"] == "failed"


class TestCommand:
    """`python -m metering.stripe_sync.standin` as `make run` starts it."""

    def command(self, store: Path, *options: str, **environment: str) -> subprocess.Popen[str]:
        arguments = [sys.executable, "-m", "metering.stripe_sync.standin", "--port", "0", "--store", str(store)]
        return subprocess.Popen(
            [*arguments, *options],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def test_it_delivers_both_kinds_to_the_urls_it_was_given(self, tmp_path, receiver):
        running = self.command(
            tmp_path,
            "--snapshots-to",
            receiver.url,
            "--thin-to",
            receiver.url,
            STRIPE_WEBHOOK_SECRET="whsec_snapshots",
            STRIPE_WEBHOOK_THIN_SECRET="whsec_thin",
        )
        assert running.stdout
        url = running.stdout.readline().split()[-1]
        client = stripe.StripeClient("sk_test_any", base_addresses={"api": url})
        make_meter(client, "api_call")
        report(client, "cus_none", int(time.time()))

        made, failed = receiver.wait_for(2)
        running.terminate()
        _, said = running.communicate(timeout=PATIENCE_SECONDS)

        assert (running.returncode, said) == (0, "")
        client.construct_event(made.body, made.signature, "whsec_snapshots")
        client.parse_event_notification(failed.body, failed.signature, "whsec_thin")

    def test_it_does_not_start_without_the_secret(self, tmp_path, receiver):
        running = self.command(tmp_path, "--thin-to", receiver.url, STRIPE_WEBHOOK_THIN_SECRET="")

        _, said = running.communicate(timeout=PATIENCE_SECONDS)

        assert (running.returncode, "STRIPE_WEBHOOK_THIN_SECRET must hold" in said) == (1, True)


class TestControls:
    @pytest.fixture
    def made(self, client, receiver) -> list[str]:
        """The ids of three events, oldest first, none of them delivered."""
        endpoint_for(client, receiver)
        for _ in range(3):
            client.v1.customers.create()
        return [event.id for event in client.v1.events.list().data][::-1]

    def test_events_are_delivered_in_the_order_given(self, standin, receiver, made):
        wanted = [made[2], made[0], made[1]]

        standin.set("webhooks/deliver", ids=wanted)

        assert [arrival.event["id"] for arrival in receiver.arrivals] == wanted
        assert deliveries(standin, "pending") == []

    def test_events_are_delivered_as_often_as_wanted_in_any_order(self, standin, receiver, made):
        answered = standin.set("webhooks/deliver", shuffle=True, copies=2)["deliveries"]

        assert sorted(arrival.event["id"] for arrival in receiver.arrivals) == sorted(made * 2)
        assert {(one["status"], one["attempts"]) for one in answered} == {("delivered", 2)}

    def test_what_was_delivered_is_delivered_again_when_named(self, standin, receiver, made):
        standin.set("webhooks/deliver")
        receiver.answers = lambda _: 500

        (again,) = standin.set("webhooks/deliver", ids=[made[0]])["deliveries"]

        assert (again["status"], again["attempts"], again["answer"]) == ("delivered", 2, 500)
        assert len(receiver.arrivals) == 4

    def test_a_dropped_answer_is_as_none_so_the_event_comes_again(self, standin, receiver, made):
        standin.set("webhooks", drop_answers=1)

        standin.set("webhooks/deliver", ids=[made[0]])
        (waiting,) = [one for one in deliveries(standin) if one["attempts"]]
        assert (waiting["status"], waiting["answer"]) == ("pending", "answer dropped: 200")

        standin.set("webhooks/deliver", ids=[made[0]])
        assert [arrival.event["id"] for arrival in receiver.arrivals] == [made[0], made[0]]
        assert len(deliveries(standin, "delivered")) == 1
        assert standin.inspect("webhooks")["drop_answers"] == 0

    @pytest.mark.parametrize("payload", ["snapshot", "thin"])
    def test_a_destination_may_be_given_its_secret_beforehand(self, standin, client, receiver, payload):
        first = standin.set("webhooks/destinations", url="http://a.example", payload=payload, secret="whsec_before")
        again = standin.set("webhooks/destinations", url=receiver.url, payload=payload, secret="whsec_chosen")
        assert first == again
        client.v1.customers.create()
        standin.set("async_validation", enabled=True)
        report(client, "cus_none", NOW)
        standin.set("error_reports")

        standin.set("webhooks/deliver")

        (arrival,) = receiver.arrivals
        assert stripe.WebhookSignature.verify_header(arrival.body, arrival.signature, "whsec_chosen", 300)
        assert (arrival.event["object"] == "event") is (payload == "snapshot")

    @pytest.mark.parametrize(
        ("path", "values"),
        [
            ("webhooks", {"hold": 1}),
            ("webhooks", {"copies": 0}),
            ("webhooks", {"speed": 2}),
            ("webhooks/deliver", {"ids": ["evt_none"]}),
            ("webhooks/deliver", {"ids": [1]}),
            ("webhooks/deliver", {"copies": 101}),
            ("webhooks/destinations", {"url": "http://a.example", "payload": "thin"}),
            ("webhooks/destinations", {"url": "a.example", "payload": "thin", "secret": "s"}),
            ("webhooks/destinations", {"url": "http://a.example", "payload": "fat", "secret": "s"}),
        ],
    )
    def test_what_no_control_means_is_refused(self, standin, path, values):
        with pytest.raises(AssertionError, match="error"):
            standin.set(path, **values)
