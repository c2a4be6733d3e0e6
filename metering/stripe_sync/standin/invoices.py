"""Invoices, as Stripe's API lets them be read, finalised, paid and voided. Source: its API reference, "Invoices"."""

from __future__ import annotations

from typing import Any

from metering.stripe_sync.standin import invoicing
from metering.stripe_sync.standin.endpoint import Call, Endpoint
from metering.stripe_sync.standin.errors import ApiError
from metering.stripe_sync.standin.invoicing import INVOICES
from metering.stripe_sync.standin.pages import CREATED, PAGE_PARAMETERS, is_created_in, page
from metering.stripe_sync.standin.rules import Choice, Flag, Text, parameters, unserved
from metering.stripe_sync.standin.store import Document
from metering.stripe_sync.standin.test_clocks import on_clock

_LIST = parameters(
    {
        "collection_method": Choice(("charge_automatically", "send_invoice")),
        "created": CREATED,
        "customer": Text(),
        "status": Choice(("draft", "open", "paid", "uncollectible", "void")),
        "subscription": Text(),
        **PAGE_PARAMETERS,
        **unserved("customer_account", "due_date"),
    }
)
_PAY = parameters(
    {
        "off_session": Flag(),
        "paid_out_of_band": Flag(),
        **unserved("forgive", "mandate", "payment_method", "source"),
    }
)


def retrieve(call: Call) -> Document:
    return invoicing.counted(call, _found(call))


def list_all(call: Call) -> Document:
    chosen = [invoice for invoice in reversed(call.all(INVOICES)) if _is_chosen(invoice, call.params)]
    shown = page(chosen, call.path, call.params, "invoice")
    return {**shown, "data": [invoicing.counted(call, invoice) for invoice in shown["data"]]}


def list_lines(call: Call) -> Document:
    return page(invoicing.counted(call, _found(call))["lines"]["data"], call.path, call.params, "line item")


def finalize(call: Call) -> Document:
    invoice = _found(call)
    if invoice["status"] != "draft":
        raise ApiError("This invoice is already finalized, you can't re-finalize a non-draft invoice.")
    call = on_clock(call, invoice)
    advances = call.params.get("auto_advance", invoice["auto_advance"])
    opened = invoicing.finalize(call, {**invoice, "auto_advance": advances})
    return invoicing.settle(call, opened) if advances or not opened["amount_due"] else opened


def pay(call: Call) -> Document:
    """An attempt by hand, which counts although it is declined and answered by 402."""
    invoice = _found(call)
    if invoice["status"] == "paid":
        raise ApiError("Invoice is already paid")
    if invoice["status"] == "void":
        raise ApiError("Voided invoices cannot be paid.")
    call = on_clock(call, invoice)
    if invoice["status"] == "draft":
        invoice = invoicing.finalize(call, invoice)
    if call.params.get("paid_out_of_band"):
        return invoicing.paid(call, invoice)
    settled = invoicing.collect(call, invoice)
    if settled["status"] != "paid":
        raise ApiError(
            "Your card was declined.", status=402, kind="card_error", code="card_declined", leaves_changes=True
        )
    return settled


def void(call: Call) -> Document:
    return _close(call, "void")


def mark_uncollectible(call: Call) -> Document:
    return _close(call, "uncollectible")


def _close(call: Call, status: str) -> Document:
    invoice = _found(call)
    if invoice["status"] not in ("open", "uncollectible"):
        raise ApiError(f"You can only pass in open invoices. This invoice isn't open: it is {invoice['status']}.")
    return invoicing.close(on_clock(call, invoice), invoice, status)


def _found(call: Call) -> Document:
    return call.find(INVOICES, "invoice")


def _is_chosen(invoice: Document, params: dict[str, Any]) -> bool:
    plain = {name: params[name] for name in ("collection_method", "customer", "status") if name in params}
    subscription = invoice["parent"]["subscription_details"]["subscription"]
    return (
        all(invoice[name] == value for name, value in plain.items())
        and params.get("subscription") in (None, subscription)
        and is_created_in(invoice, params)
    )


_EXPANDABLE = frozenset(
    {"customer", "parent.subscription_details.subscription", "lines.data.pricing.price_details.price"}
)
_LISTED = frozenset({"data.customer", "data.parent.subscription_details.subscription"})

ENDPOINTS = (
    Endpoint("GET", "/v1/invoices", _LIST, list_all, _LISTED),
    Endpoint("GET", "/v1/invoices/<id>", parameters(), retrieve, _EXPANDABLE),
    Endpoint(
        "GET",
        "/v1/invoices/<id>/lines",
        parameters(PAGE_PARAMETERS),
        list_lines,
        frozenset({"data.pricing.price_details.price"}),
    ),
    Endpoint("POST", "/v1/invoices/<id>/finalize", parameters({"auto_advance": Flag()}), finalize, _EXPANDABLE),
    Endpoint("POST", "/v1/invoices/<id>/pay", _PAY, pay, _EXPANDABLE),
    Endpoint("POST", "/v1/invoices/<id>/void", parameters(), void, _EXPANDABLE),
    Endpoint("POST", "/v1/invoices/<id>/mark_uncollectible", parameters(), mark_uncollectible, _EXPANDABLE),
)
