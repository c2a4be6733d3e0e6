"""One run of an endpoint: its changes and its answer are committed together, or not at all."""

from __future__ import annotations

from metering.stripe_sync.standin.endpoint import Call, Endpoint
from metering.stripe_sync.standin.errors import ApiError
from metering.stripe_sync.standin.faults import NO_FAULT
from metering.stripe_sync.standin.rules import parameters
from metering.stripe_sync.standin.service import Request, Standin
from metering.stripe_sync.standin.store import Document


def test_a_refusal_discards_the_changes_made_before_it(tmp_path):
    def save_and_refuse(call: Call) -> Document:
        call.save("thing", {"id": "1"})
        raise ApiError("no")

    standin = Standin(tmp_path, lambda: 0.0)
    endpoint = Endpoint("POST", "/v1/things", parameters(), save_and_refuse)

    answer = standin.run(endpoint, Request(endpoint.path, {}, {}, None), NO_FAULT)

    assert answer.status == 400
    assert standin.store.of("thing") == {}
    standin.close()
