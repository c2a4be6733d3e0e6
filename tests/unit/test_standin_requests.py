"""Meters, customers and parameters of the stand-in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import stripe

from tests.factories.standin import HOUR, InProcessStandin, make_meter, report

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


class TestMeters:
    def test_a_meter_is_made_renamed_deactivated_and_reactivated(self, client):
        meter = make_meter(client, "api_call")
        assert (meter.status, meter.customer_mapping.event_payload_key) == ("active", "stripe_customer_id")
        assert meter.value_settings.event_payload_key == "value"

        renamed = client.v1.billing.meters.update(meter.id, {"display_name": "Calls"})
        assert (renamed.display_name, renamed.event_name) == ("Calls", "api_call")

        off = client.v1.billing.meters.deactivate(meter.id)
        assert (off.status, off.status_transitions.deactivated_at is None) == ("inactive", False)

        on = client.v1.billing.meters.reactivate(meter.id)
        assert (on.status, on.status_transitions.deactivated_at) == ("active", None)
        assert client.v1.billing.meters.retrieve(meter.id).to_dict() == on.to_dict()

    def test_an_event_name_belongs_to_one_active_meter(self, client, meter):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            make_meter(client, "api_call")
        assert refused.value.param == "event_name"

        client.v1.billing.meters.deactivate(meter.id)
        make_meter(client, "api_call")
        with pytest.raises(stripe.InvalidRequestError):
            client.v1.billing.meters.reactivate(meter.id)

    def test_meters_are_listed_by_status(self, client):
        made = [make_meter(client, f"event_{n}").id for n in range(3)]
        client.v1.billing.meters.deactivate(made[1])

        assert [m.id for m in client.v1.billing.meters.list().data] == made[::-1]
        assert [m.id for m in client.v1.billing.meters.list({"status": "active"}).data] == [made[2], made[0]]
        assert [m.id for m in client.v1.billing.meters.list({"status": "inactive"}).data] == [made[1]]

    def test_other_payload_keys_are_read_where_the_meter_says(self, standin, client, customer):
        client.v1.billing.meters.create(
            {
                "display_name": "Tokens",
                "event_name": "tokens",
                "default_aggregation": {"formula": "sum"},
                "customer_mapping": {"type": "by_id", "event_payload_key": "who"},
                "value_settings": {"event_payload_key": "amount"},
            }
        )
        client.v1.billing.meter_events.create(
            {"event_name": "tokens", "payload": {"who": customer, "amount": "12"}, "timestamp": HOUR_START}
        )

        assert standin.total("tokens") == "12"


class TestCustomers:
    def test_metadata_merges_key_by_key_and_an_empty_value_takes_a_key_out(self, client):
        made = client.v1.customers.create({"email": "a@example.com", "metadata": {"plan": "pro", "seat": "1"}})

        changed = client.v1.customers.update(made.id, {"metadata": {"seat": "", "region": "eu"}, "name": "Ada"})

        assert changed.metadata.to_dict() == {"plan": "pro", "region": "eu"}
        assert (changed.name, changed.email) == ("Ada", "a@example.com")
        assert client.v1.customers.update(made.id, {"metadata": ""}).metadata.to_dict() == {}
        assert client.v1.customers.retrieve(made.id).to_dict()["metadata"] == {}

    def test_pages_reach_every_customer_once_and_the_email_filter_picks_by_case(self, client):
        made = [client.v1.customers.create({"email": f"user{n % 2}@example.com"}).id for n in range(7)]

        everyone = client.v1.customers.list({"limit": 3})
        assert (len(everyone.data), everyone.has_more) == (3, True)
        assert [c.id for c in everyone.auto_paging_iter()] == made[::-1]
        chosen = client.v1.customers.list({"email": "user1@example.com"}).data
        assert [c.id for c in chosen] == [made[5], made[3], made[1]]
        assert client.v1.customers.list({"email": "USER1@example.com"}).data == []
        back = client.v1.customers.list({"limit": 2, "ending_before": made[0]})
        assert ([c.id for c in back.data], back.has_more) == ([made[2], made[1]], True)

    def test_an_unknown_customer_is_404(self, client):
        with pytest.raises(stripe.InvalidRequestError, match="No such customer: 'cus_none'") as refused:
            client.v1.customers.retrieve("cus_none")

        assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")


def test_the_account_of_a_test_key_is_always_the_same_one(client):
    assert client.v1.accounts.retrieve_current().id == "acct_standin"


class TestRefusals:
    @pytest.mark.parametrize(
        ("params", "code", "param"),
        [
            ({"event_name": "e", "default_aggregation": {"formula": "sum"}}, "parameter_missing", "display_name"),
            ({"event_name": "e", "display_name": "d"}, "parameter_missing", "default_aggregation"),
            (
                {"event_name": "e", "display_name": "d", "default_aggregation": {"formula": "sum"}, "colour": "red"},
                "parameter_unknown",
                "colour",
            ),
            (
                {"event_name": "e", "display_name": "d", "default_aggregation": {"formula": "sum", "by": "x"}},
                "parameter_unknown",
                "default_aggregation[by]",
            ),
            (
                {"event_name": "e", "display_name": "d", "default_aggregation": {"formula": "max"}},
                None,
                "default_aggregation[formula]",
            ),
            (
                {"event_name": "e", "display_name": "", "default_aggregation": {"formula": "sum"}},
                "parameter_invalid_empty",
                "display_name",
            ),
            (
                {"event_name": "e", "display_name": "d" * 251, "default_aggregation": {"formula": "sum"}},
                None,
                "display_name",
            ),
            (
                {"event_name": "e" * 101, "display_name": "d", "default_aggregation": {"formula": "sum"}},
                None,
                "event_name",
            ),
            ({"event_name": "e", "display_name": "d", "default_aggregation": "sum"}, None, "default_aggregation"),
        ],
    )
    def test_a_meter_with_wrong_parameters_is_refused_and_not_made(self, client, params, code, param):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            client.v1.billing.meters.create(params)

        assert (refused.value.http_status, refused.value.code, refused.value.param) == (400, code, param)
        assert refused.value.error.type == "invalid_request_error"
        assert client.v1.billing.meters.list().data == []

    def test_an_identifier_past_100_characters_is_refused(self, client, customer, meter):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            report(client, customer, HOUR_START, identifier="x" * 101)

        assert refused.value.param == "identifier"

    @pytest.mark.parametrize("limit", [0, 101])
    def test_a_page_holds_1_to_100(self, client, limit):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            client.v1.customers.list({"limit": limit})

        assert (refused.value.code, refused.value.param) == ("parameter_invalid_integer", "limit")

    def test_what_cannot_be_expanded_is_refused(self, client, customer):
        with pytest.raises(stripe.InvalidRequestError, match="cannot be expanded"):
            client.v1.customers.retrieve(customer, {"expand": ["friends"]})
