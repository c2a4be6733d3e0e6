"""The stand-in as its users meet it: a real process, driven by Stripe's own client."""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

import pytest
import requests
import stripe

from tests.factories.standin import DAY, HOUR, KEY, StandinProcess, make_meter, report
from tests.factories.standin_billing import Shop, item


@pytest.fixture
def client(standin: StandinProcess) -> stripe.StripeClient:
    return standin.client()


@pytest.fixture
def customer(client: stripe.StripeClient) -> str:
    return client.v1.customers.create({"name": "Ada"}).id


@pytest.fixture
def meter(client: stripe.StripeClient) -> stripe.billing.Meter:
    return make_meter(client, "api_call")


@pytest.fixture
def hour() -> int:
    """The start of an hour that stays inside Stripe's window, whatever the minute a test starts at."""
    return int(time.time()) // HOUR * HOUR - HOUR


def delivered(client: stripe.StripeClient, customer: str, hour: int, value: str, identifier: str) -> bool:
    """Whether this sending was the one that counted; False when the event was there already."""
    try:
        report(client, customer, hour, value, identifier)
    except stripe.InvalidRequestError as error:
        if error.user_message != f"An event already exists with identifier {identifier}.":
            raise
        return False
    return True


class TestDurability:
    def test_totals_survive_kill_9(self, standin, client, customer, meter, hour):
        for number in range(20):
            report(client, customer, hour, "0.1", f"event-{number}")

        standin.kill()
        standin.start()

        assert standin.total("api_call") == "2.0"
        assert standin.client().v1.customers.retrieve(customer).name == "Ada"
        assert standin.client().v1.billing.meters.retrieve(meter.id).event_name == "api_call"

    def test_events_answered_under_load_survive_a_kill_and_resending_all_counts_each_once(
        self, standin, client, customer, meter, hour
    ):
        identifiers = [f"load-{number}" for number in range(400)]
        answered: list[str] = []
        enough = threading.Event()

        def send(mine: list[str]) -> None:
            own = standin.client()
            for identifier in mine:
                try:
                    report(own, customer, hour, "3", identifier)
                except stripe.APIConnectionError:
                    return
                answered.append(identifier)
                if len(answered) >= 100:
                    enough.set()

        with ThreadPoolExecutor(8) as senders:
            for start in range(8):
                senders.submit(send, identifiers[start::8])
            assert enough.wait(30)
            standin.kill()
        standin.start()

        kept = {event["identifier"] for event in standin.inspect("events")["events"]}
        assert set(answered) <= kept
        again = standin.client()
        for identifier in identifiers:
            if not delivered(again, customer, hour, "3", identifier):
                assert identifier in kept
        assert standin.total("api_call") == "1200"

    def test_an_identifier_is_still_known_after_a_restart(self, standin, client, customer, meter, hour):
        report(client, customer, hour, identifier="once")
        standin.kill()
        standin.start()

        with pytest.raises(stripe.InvalidRequestError, match="already exists"):
            report(standin.client(), customer, hour, identifier="once")

    def test_an_idempotent_answer_is_still_known_after_a_restart(self, standin, client):
        first = client.v1.customers.create({"name": "A"}, {"idempotency_key": "k"})
        standin.kill()
        standin.start()

        again = standin.client().v1.customers.create({"name": "A"}, {"idempotency_key": "k"})

        assert again.id == first.id
        assert len(standin.client().v1.customers.list().data) == 1

    def test_a_subscription_and_its_invoices_survive_kill_9(self, standin, client, meter, hour):
        shop = Shop(client, hour)
        subscription = shop.subscribe(shop.price(unit_amount=2000), shop.metered(meter.id, unit_amount=3))
        report(client, shop.customer, hour, "7")
        end = item(subscription).current_period_end
        client.v1.test_helpers.test_clocks.advance(shop.clock, {"frozen_time": end + HOUR})

        standin.kill()
        standin.start()

        shop.client = standin.client()
        assert [(i.status, i.amount_paid) for i in shop.invoices()] == [("paid", 2000), ("paid", 2021)]
        assert item(shop.fresh(subscription)).current_period_start == end

    def test_sigterm_answers_what_is_running_and_exits_with_zero(self, standin, client, customer, meter, hour):
        standin.set("faults", kind="slow", seconds=0.5, path="/v1/billing/meter_events")
        with ThreadPoolExecutor(1) as sender:
            sending = sender.submit(report, client, customer, hour, "7", "last")
            standin.wait_for_faults_to_strike()

            assert standin.stop() == 0
            assert sending.result().identifier == "last"

        standin.start()
        assert standin.total("api_call") == "7"

    def test_a_second_stand_in_over_the_same_store_refuses_to_start(self, standin):
        with pytest.raises(ChildProcessError, match=r"exit code 1: .* is in use by another stand-in"):
            StandinProcess(standin.store)


class TestMeterEvents:
    def test_the_answer_repeats_what_was_sent(self, client, customer, meter, hour):
        event = report(client, customer, hour, "25", "my-id")

        assert event.object == "billing.meter_event"
        assert event.identifier == "my-id"
        assert event.timestamp == hour
        assert event.payload.to_dict() == {"stripe_customer_id": customer, "value": "25"}
        assert event.livemode is False

    def test_an_identifier_is_made_up_when_none_is_sent(self, client, customer, meter, hour):
        assert report(client, customer, hour).identifier != report(client, customer, hour).identifier

    def test_a_duplicate_identifier_is_refused_and_not_counted(self, standin, client, customer, meter, hour):
        report(client, customer, hour, "5", "twice")

        with pytest.raises(stripe.InvalidRequestError) as refused:
            report(client, customer, hour, "5", "twice")

        assert refused.value.http_status == 400
        assert refused.value.user_message == "An event already exists with identifier twice."
        assert refused.value.headers["stripe-should-retry"] == "false"
        assert standin.total("api_call") == "5"

    def test_an_identifier_is_free_again_after_24_hours(self, standin, client, customer, meter, hour):
        report(client, customer, hour, "5", "again")
        standin.set("clock", advance_seconds=DAY - 60)
        with pytest.raises(stripe.InvalidRequestError, match="already exists"):
            report(client, customer, hour, "5", "again")

        standin.set("clock", advance_seconds=61)
        report(client, customer, hour, "5", "again")

        assert standin.total("api_call") == "10"

    def test_many_senders_of_the_same_events_count_each_once(self, standin, customer, meter, hour):
        def send(_: int) -> int:
            own = standin.client()
            return sum(delivered(own, customer, hour, "0.01", f"shared-{number}") for number in range(50))

        with ThreadPoolExecutor(8) as senders:
            accepted = sum(senders.map(send, range(8)))

        assert accepted == 50
        assert standin.total("api_call") == "0.50"


class TestRefusals:
    @pytest.mark.parametrize("key", ["sk_live_0123456789abcdef", "pk_test_123", "nonsense"])
    def test_a_key_that_is_no_secret_test_key_is_401_and_never_repeated_in_clear(self, standin, key):
        with pytest.raises(stripe.AuthenticationError, match="Invalid API Key provided") as refused:
            standin.client(key=key).v1.customers.list()

        assert key not in str(refused.value)

    def test_no_key_is_401(self, standin):
        refused = standin.raw("GET", "/v1/customers")

        assert (refused.status_code, refused.json()["error"]["type"]) == (401, "invalid_request_error")

    def test_basic_authentication_with_the_key_as_user_is_accepted(self, standin):
        assert standin.raw("GET", "/v1/customers", auth=(KEY, "")).status_code == 200

    @pytest.mark.parametrize(
        ("method", "path"), [("GET", "/v1/nothing"), ("GET", "/"), ("DELETE", "/v1/billing/meters")]
    )
    def test_an_unknown_path_or_method_is_404_in_stripes_shape(self, standin, method, path):
        refused = standin.raw(method, path, auth=(KEY, ""))
        error = refused.json()["error"]

        assert (refused.status_code, error["type"]) == (404, "invalid_request_error")
        assert error["message"].startswith(f"Unrecognized request URL ({method}: {path})")
        assert refused.headers["Request-Id"].startswith("req_")

    def test_json_is_refused_where_stripe_takes_forms(self, standin):
        refused = standin.raw("POST", "/v1/customers", auth=(KEY, ""), json={})

        assert refused.status_code == 400
        assert "x-www-form-urlencoded" in refused.json()["error"]["message"]

    def test_a_connection_is_kept_open_for_the_next_request(self, standin):
        connection = HTTPConnection(standin.url.removeprefix("http://"), timeout=20)
        connection.connect()
        opened = connection.sock

        for _ in range(3):
            connection.request("GET", "/v1/customers", headers={"Authorization": f"Bearer {KEY}"})
            assert connection.getresponse().read().startswith(b"{")
            assert connection.sock is opened
        connection.close()

    def test_every_answer_names_its_request_and_echoes_the_version(self, client):
        answered = client.v1.customers.create().last_response

        assert answered is not None
        assert re.fullmatch(r"req_\w+", answered.request_id)
        assert answered.headers["Stripe-Version"] == stripe.api_version


class TestIdempotencyKeys:
    def test_a_repetition_gets_the_first_answer_and_runs_nothing(self, standin, client, customer, meter, hour):
        first = report(client, customer, hour, "5", key="k1")
        again = report(client, customer, hour, "5", key="k1")

        assert again.identifier == first.identifier
        assert again.last_response.headers["Idempotent-Replayed"] == "true"
        assert again.last_response.headers["Original-Request"] == first.last_response.request_id
        assert "Idempotent-Replayed" not in first.last_response.headers
        assert standin.total("api_call") == "5"

    def test_another_request_under_the_key_is_refused(self, standin, client, customer, meter, hour):
        report(client, customer, hour, "5", key="k1")

        with pytest.raises(stripe.IdempotencyError, match="same parameters") as refused:
            report(client, customer, hour, "6", key="k1")
        assert refused.value.http_status == 400
        with pytest.raises(stripe.IdempotencyError, match="same endpoint"):
            client.v1.customers.create({}, {"idempotency_key": "k1"})

        assert standin.total("api_call") == "5"

    def test_a_refusal_by_the_endpoint_is_kept_so_only_a_fresh_key_gets_through(self, standin, client, customer, hour):
        with pytest.raises(stripe.InvalidRequestError, match="No active meter"):
            report(client, customer, hour, "5", "id", key="k1")
        make_meter(client, "api_call")

        with pytest.raises(stripe.InvalidRequestError, match="No active meter") as kept:
            report(client, customer, hour, "5", "id", key="k1")
        assert kept.value.headers["Idempotent-Replayed"] == "true"
        report(client, customer, hour, "5", "id", key="k2")

        assert standin.total("api_call") == "5"

    def test_a_refusal_of_parameters_is_not_kept(self, client):
        with pytest.raises(stripe.InvalidRequestError):
            client.v1.customers.create({"colour": "red"}, {"idempotency_key": "k1"})

        assert client.v1.customers.create({"name": "red"}, {"idempotency_key": "k1"}).name == "red"

    def test_a_key_is_forgotten_after_24_hours(self, standin, client):
        first = client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"})
        standin.set("clock", advance_seconds=DAY + 1)

        assert client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"}).id != first.id

    def test_a_key_whose_request_is_still_running_is_409(self, standin, client, customer, meter, hour):
        standin.set("faults", kind="slow", seconds=0.5)
        with ThreadPoolExecutor(1) as sender:
            running = sender.submit(report, client, customer, hour, "5", key="k1")
            standin.wait_for_faults_to_strike()

            with pytest.raises(stripe.APIError) as refused:
                report(standin.client(), customer, hour, "5", key="k1")
            running.result()

        assert (refused.value.http_status, refused.value.error.code) == (409, "idempotency_key_in_use")
        assert standin.total("api_call") == "5"


class TestFaults:
    def test_a_dropped_answer_was_counted_and_a_later_attempt_learns_so(self, standin, client, customer, meter, hour):
        standin.set("faults", kind="drop_answer", path="/v1/billing/meter_events")

        with pytest.raises(stripe.APIConnectionError, match="closed connection without response"):
            report(client, customer, hour, "5", "lost")

        assert standin.total("api_call") == "5"
        with pytest.raises(stripe.InvalidRequestError, match="already exists with identifier lost"):
            report(client, customer, hour, "5", "lost")
        assert standin.total("api_call") == "5"

    def test_a_client_that_retries_a_dropped_answer_gets_the_kept_one(self, standin, customer, meter, hour):
        standin.set("faults", kind="drop_answer", path="/v1/billing/meter_events")

        event = report(standin.client(retries=2), customer, hour, "5", "lost")

        assert event.last_response.headers["Idempotent-Replayed"] == "true"
        assert standin.total("api_call") == "5"

    def test_a_reset_counted_nothing(self, standin, client, customer, meter, hour):
        standin.set("faults", kind="reset")

        with pytest.raises(stripe.APIConnectionError, match="Connection reset by peer"):
            report(client, customer, hour, "5", "reset")

        assert standin.total("api_call") is None
        report(client, customer, hour, "5", "reset")
        assert standin.total("api_call") == "5"

    def test_a_rate_limit_names_its_reason_and_is_not_retried_by_the_client(self, standin, customer, meter, hour):
        standin.set("faults", kind="rate_limit", reason="endpoint-rate")

        with pytest.raises(stripe.RateLimitError) as refused:
            report(standin.client(retries=2), customer, hour)

        assert refused.value.http_status == 429
        assert refused.value.headers["Stripe-Rate-Limited-Reason"] == "endpoint-rate"
        assert refused.value.error.code == "rate_limit"
        assert "Retry-After" not in refused.value.headers
        assert standin.total("api_call") is None

    def test_a_rate_limit_that_says_retry_is_retried(self, standin, customer, meter, hour):
        standin.set("faults", kind="rate_limit", should_retry=True)

        report(standin.client(retries=2), customer, hour, "5")

        assert standin.total("api_call") == "5"

    @pytest.mark.parametrize(("when", "counted"), [("before", None), ("after", "5")])
    def test_a_500_is_kept_under_its_key_so_a_fresh_key_is_needed(
        self, standin, client, customer, meter, hour, when, counted
    ):
        standin.set("faults", kind="error_500", when=when)

        for _ in range(2):
            with pytest.raises(stripe.APIError) as failed:
                report(client, customer, hour, "5", "id", key="k1")
            assert (failed.value.http_status, failed.value.error.type) == (500, "api_error")
        assert failed.value.headers["Idempotent-Replayed"] == "true"
        assert standin.total("api_call") == counted

        if counted:
            with pytest.raises(stripe.InvalidRequestError, match="already exists"):
                report(client, customer, hour, "5", "id", key="k2")
        else:
            report(client, customer, hour, "5", "id", key="k2")
        assert standin.total("api_call") == "5"

    def test_an_outage_lasts_until_it_is_lifted_and_keeps_no_answers(self, standin, client, customer, meter, hour):
        standin.set("faults", kind="outage")

        for _ in range(3):
            with pytest.raises(stripe.APIError) as failed:
                report(client, customer, hour, "5", "id", key="k1")
            assert failed.value.http_status == 503

        standin.lift_faults()
        report(client, customer, hour, "5", "id", key="k1")
        assert standin.total("api_call") == "5"

    def test_a_slow_answer_exceeds_the_clients_patience_and_counts_all_the_same(
        self, standin, client, customer, meter, hour
    ):
        standin.set("faults", kind="slow", seconds=1.0)
        hasty = standin.client(timeout=0.2)

        with pytest.raises(stripe.APIConnectionError):
            report(hasty, customer, hour, "5", "slow")

        assert standin.stop() == 0  # which waits for what is being answered
        standin.start()
        assert standin.total("api_call") == "5"

    def test_a_fault_strikes_only_the_requests_it_names_and_only_so_often(self, standin, client, meter, hour):
        good, broken = (client.v1.customers.create().id for _ in range(2))
        standin.set("faults", kind="rate_limit", method="POST", times=2, params={"payload[stripe_customer_id]": broken})

        report(client, good, hour)
        for _ in range(2):
            with pytest.raises(stripe.RateLimitError):
                report(client, broken, hour)
        report(client, broken, hour)

        assert standin.inspect("faults")["faults"] == []

    @pytest.mark.parametrize(
        "fault",
        [{"kind": "gremlin"}, {"kind": "reset", "times": 0}, {"kind": "slow", "seconds": "long"}, {"sort": "reset"}],
    )
    def test_a_fault_that_makes_no_sense_is_refused(self, standin, fault):
        with pytest.raises(requests.HTTPError, match="400"):
            standin.set("faults", **fault)

        assert standin.inspect("faults")["faults"] == []


class TestPage:
    def test_a_developer_sees_usage_arriving_without_any_script(self, standin, client, customer, meter, hour):
        report(client, customer, hour, "12.5")

        page = standin.raw("GET", "/_standin/")
        css = standin.raw("GET", "/_standin/static/standin.css")

        assert customer in page.text
        assert "12.5" in page.text
        assert "<script" not in page.text
        assert page.headers["Content-Security-Policy"] == "default-src 'none'; style-src 'self'"
        assert css.headers["Content-Type"].startswith("text/css")
