"""The page at `/_standin/`: what the stand-in holds, the latest first, for people to look at."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from flask import Blueprint, Response, current_app, make_response, render_template

from metering.stripe_sync.standin.announcements import EVENTS, THIN_EVENTS
from metering.stripe_sync.standin.customers import CUSTOMERS
from metering.stripe_sync.standin.deliverer import Deliverer
from metering.stripe_sync.standin.deliveries import DELIVERIES
from metering.stripe_sync.standin.descriptions import money
from metering.stripe_sync.standin.endpoint import Call
from metering.stripe_sync.standin.inspection import asynchronous_errors, hour_totals
from metering.stripe_sync.standin.invoicing import INVOICES
from metering.stripe_sync.standin.products import PRODUCTS
from metering.stripe_sync.standin.service import Standin
from metering.stripe_sync.standin.store import Document
from metering.stripe_sync.standin.subscription_documents import SUBSCRIPTIONS, period, price_of

MAX_ROWS = 50

views = Blueprint("overview", __name__, url_prefix="/_standin")


@views.get("/")
def page() -> Response:
    standin: Standin = current_app.extensions["standin"]
    deliverer: Deliverer = current_app.extensions["deliverer"]
    html = render_template(
        "standin/overview.html",
        shown=MAX_ROWS,
        now=standin.clock.now(),
        manner=deliverer.manner,
        faults=standin.faults.listing(),
        usage=[
            [one["event_name"], one["customer"], one["hour_start"], one["events"], one["total"]]
            for one in hour_totals(standin)
        ],
        errors=[[one["event_name"], one["code"], one["count"]] for one in asynchronous_errors(standin)],
        **standin.act(_rows),
    )
    response = make_response(html)
    response.headers["Content-Security-Policy"] = "default-src 'none'; style-src 'self'"
    return response


@views.app_template_filter("moment")
def moment(at: float) -> str:
    """Unix seconds as people read them, UTC."""
    return f"{datetime.fromtimestamp(at, UTC):%d %b %Y, %H:%M}"


@views.app_template_filter("money")
def amount(minor: int | str, currency: str) -> str:
    """An amount in the minor unit, as a price or an invoice holds it."""
    return money(Decimal(minor), currency)


def _rows(call: Call) -> dict[str, list[list[Any]]]:
    """A table's rows by its name."""
    return {
        "customers": [
            [one["id"], one["name"] or "", one["email"] or "", moment(one["created"])]
            for one in _latest(call, CUSTOMERS)
        ],
        "subscriptions": [
            [one["id"], one["customer"], one["status"], _plan(call, one), moment(period(one)[1])]
            for one in _latest(call, SUBSCRIPTIONS)
        ],
        "invoices": [
            [
                one["number"] or one["id"],
                one["customer"],
                one["status"],
                moment(one["created"]),
                amount(one["total"], one["currency"]),
            ]
            for one in _latest(call, INVOICES)
        ],
        "events": [
            [one["type"], one["data"]["object"].get("id", ""), moment(one["created"]), one["id"]]
            for one in _latest(call, EVENTS)
        ],
        "thin_events": [
            [one["type"], (one["related_object"] or {}).get("id", ""), one["created"], one["id"]]
            for one in _latest(call, THIN_EVENTS)
        ],
        "deliveries": [
            [one["event_type"], one["url"], one["status"], one["attempts"], one["answer"] or ""]
            for one in _latest(call, DELIVERIES)
        ],
    }


def _latest(call: Call, noun: str) -> list[Document]:
    return call.all(noun)[::-1]


def _plan(call: Call, subscription: Document) -> str:
    """The names of the products it is for, each once."""
    products = [price_of(call, item)["product"] for item in subscription["items"]["data"]]
    found = [call.get(PRODUCTS, id) for id in dict.fromkeys(products)]
    return ", ".join(product["name"] for product in found if product)
