"""A Stripe that answers with documents that a test lays out: for states that take long to reach at a stand-in."""

import copy
import json
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import stripe

from metering.stripe_sync.gateway import STANDIN, StripeApi

CUSTOMER = "cus_canned"


class CannedStripe(stripe.HTTPClient):
    """`documents` by path; what is not there is a 404."""

    name = "canned"

    def __init__(self) -> None:
        super().__init__()
        self.documents: dict[str, Any] = {}
        self.requests: list[tuple[str, str]] = []

    @property
    def api(self) -> StripeApi:
        client = stripe.StripeClient("sk_test_canned", base_addresses={"api": "http://canned"}, http_client=self)
        return StripeApi(client, STANDIN)

    def put(self, document: dict[str, Any]) -> dict[str, Any]:
        paths = {"subscription": "subscriptions", "invoice": "invoices", "customer": "customers"}
        self.documents[f"/v1/{paths[document['object']]}/{document['id']}"] = document
        return document

    def request(self, method: str, url: str, headers: Any, post_data: Any = None) -> tuple[bytes, int, Any]:
        path = url.removeprefix("http://canned").partition("?")[0]
        self.requests.append((method, path))
        found = self.documents.get(path)
        if found is None:
            error = {"type": "invalid_request_error", "code": "resource_missing", "message": f"No such object: {path}"}
            return json.dumps({"error": error}).encode(), 404, {}
        return json.dumps(found).encode(), 200, {}

    def close(self) -> None:
        """Nothing is open."""


@cache
def _samples() -> dict[str, Any]:
    """Stripe's sample objects."""
    found: dict[str, Any] = json.loads((Path(__file__).parent / "stripe_samples.json").read_text())
    return found


def subscription(
    start: datetime, end: datetime, *, id: str = "sub_1", plan: str | None = "pro", **changed: Any
) -> dict[str, Any]:
    """A subscription as Stripe shows one, with one item whose period is `[start, end)`."""
    made = copy.deepcopy(_samples()["subscription"])
    item = made["items"]["data"][0]
    item["current_period_start"], item["current_period_end"] = int(start.timestamp()), int(end.timestamp())
    made |= {
        "id": id,
        "customer": CUSTOMER,
        "status": "active",
        "start_date": int(start.timestamp()),
        "billing_cycle_anchor": int(start.timestamp()),
        "ended_at": None,
        "cancel_at": None,
        "canceled_at": None,
        "cancel_at_period_end": False,
        "pause_collection": None,
        "metadata": {"metering_plan": plan} if plan else {},
    }
    return made | changed


def customer(key: str, id: str = CUSTOMER) -> dict[str, Any]:
    return copy.deepcopy(_samples()["customer"]) | {"id": id, "metadata": {"metering_customer": key}}


def invoice(id: str = "in_1", **changed: Any) -> dict[str, Any]:
    return copy.deepcopy(_samples()["invoice"]) | {"id": id, "customer": CUSTOMER} | changed
