"""A Stripe that answers with documents that a test lays out: for states that take long to reach at a stand-in."""

import json
from datetime import datetime
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


def subscription(
    start: datetime, end: datetime, *, id: str = "sub_1", plan: str | None = "pro", **changed: Any
) -> dict[str, Any]:
    """A subscription as Stripe shows one, with one item whose period is `[start, end)`."""
    starts, ends = int(start.timestamp()), int(end.timestamp())
    price = {
        "id": "price_1",
        "object": "price",
        "recurring": {"interval": "month", "interval_count": 1},
        "metadata": {},
    }
    item = {
        "id": "si_1",
        "object": "subscription_item",
        "current_period_start": starts,
        "current_period_end": ends,
        "price": price,
    }
    return {
        "id": id,
        "object": "subscription",
        "livemode": False,
        "customer": CUSTOMER,
        "status": "active",
        "start_date": starts,
        "billing_cycle_anchor": starts,
        "ended_at": None,
        "cancel_at": None,
        "canceled_at": None,
        "cancel_at_period_end": False,
        "pause_collection": None,
        "items": {"object": "list", "data": [item], "has_more": False},
        "metadata": {"metering_plan": plan} if plan else {},
    } | changed


def customer(key: str, id: str = CUSTOMER) -> dict[str, Any]:
    return {"id": id, "object": "customer", "livemode": False, "metadata": {"metering_customer": key}}


def invoice(id: str = "in_1", **changed: Any) -> dict[str, Any]:
    return {
        "id": id,
        "object": "invoice",
        "livemode": False,
        "customer": CUSTOMER,
        "number": None,
        "status": "draft",
        "currency": "usd",
        "total": 0,
        "amount_due": 0,
        "amount_paid": 0,
        "created": 1_790_000_000,
        "period_start": 1_790_000_000,
        "period_end": 1_790_000_000,
        "hosted_invoice_url": None,
        "invoice_pdf": None,
        "status_transitions": {"finalized_at": None, "paid_at": None, "voided_at": None},
        "parent": None,
        "lines": {"object": "list", "data": [], "has_more": False},
        "metadata": {},
    } | changed
