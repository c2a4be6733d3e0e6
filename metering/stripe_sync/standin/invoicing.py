"""The life of an invoice: drafted, finalised with the usage known by then, and paid, or not.

A customer pays unless its metadata says `standin_payment: fail` (each attempt is declined) or `none` (it has no payment
method); payment methods are not kept here. A declined renewal is tried again after 3, 5 and 7 days, then no more.
Source: Stripe's pages "Invoice lifecycle", "How subscriptions work" and "Automate payment retries".
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from metering.stripe_sync.standin.announcements import announce
from metering.stripe_sync.standin.charges import Charge, lines
from metering.stripe_sync.standin.clock import SETTINGS
from metering.stripe_sync.standin.customers import CUSTOMERS
from metering.stripe_sync.standin.endpoint import Call, new_id
from metering.stripe_sync.standin.invoice_documents import new_invoice, with_lines
from metering.stripe_sync.standin.periods import DAY_SECONDS
from metering.stripe_sync.standin.store import Document
from metering.stripe_sync.standin.subscription_documents import SUBSCRIPTIONS

INVOICES = "invoice"
FINALIZATION = "finalization"
FINALIZATION_SECONDS = 3600

_RETRY_DAYS = {1: 3, 2: 5, 3: 7}


def draft(
    call: Call, subscription: Document, charges: list[Charge], reason: str, *, waits: bool = True
) -> Document | None:
    """A new draft; one that waits finalises itself in an hour. Without a charge there is no invoice."""
    if not charges:
        return None
    customer = owner(call, subscription)
    invoice = new_invoice(new_id("in", 24), call.timestamp, customer, subscription, reason)
    paused = subscription["pause_collection"] or {}
    advances = paused.get("behavior") != "keep_as_draft"
    invoice |= {
        "_charges": charges,
        "auto_advance": advances,
        "automatically_finalizes_at": _finalizes_at(call) if waits and advances else None,
    }
    invoice = call.save(INVOICES, counted(call, invoice))
    change_subscription(call, subscription["id"], latest_invoice=invoice["id"])
    announce(call, "invoice.created", invoice)
    return invoice


def upcoming(call: Call, subscription: Document, charges: list[Charge], known_at: float = math.inf) -> Document | None:
    """What the next invoice would be; nothing of it is kept."""
    if not charges:
        return None
    first = subscription["items"]["data"][0]
    at = first["current_period_end"]
    shape = {**subscription, "_usage_period": [first["current_period_start"], at]}
    id = new_id("upcoming_in", 24)
    invoice = new_invoice(id, at, owner(call, subscription), shape, "upcoming")
    invoice["next_payment_attempt"] = _finalizes_at(replace(call, now=float(at)))
    return with_lines(invoice, lines(call, invoice, subscription, charges, known_at))


def counted(call: Call, invoice: Document, known_at: float = math.inf) -> Document:
    """A draft with its lines as usage makes them now; any other invoice as it is."""
    if invoice["status"] != "draft":
        return invoice
    subscription = call.get(SUBSCRIPTIONS, invoice["parent"]["subscription_details"]["subscription"])
    if subscription is None:
        return invoice
    return with_lines(invoice, lines(call, invoice, subscription, invoice["_charges"], known_at))


def finalize(call: Call, invoice: Document) -> Document:
    """Numbers stand from here on. The customer's balance is used up first, and takes what is below zero."""
    invoice, customer = counted(call, invoice), owner(call, invoice)
    due = invoice["total"] + customer["balance"]
    sequence = customer["next_invoice_sequence"]
    call.save(CUSTOMERS, {**customer, "balance": min(due, 0), "next_invoice_sequence": sequence + 1})
    opened = _changed(
        call,
        invoice,
        amount_due=max(due, 0),
        amount_remaining=max(due, 0),
        automatically_finalizes_at=None,
        ending_balance=min(due, 0),
        effective_at=call.timestamp,
        hosted_invoice_url=f"{call.base_url}i/{invoice['id']}" if call.base_url else None,
        number=f"{customer['invoice_prefix']}-{sequence:04}",
        starting_balance=customer["balance"],
        status="open",
        status_transitions={**invoice["status_transitions"], "finalized_at": call.timestamp},
    )
    announce(call, "invoice.finalized", opened)
    return opened


def bill_at_once(call: Call, subscription: Document, charges: list[Charge], reason: str) -> Document | None:
    """What a change by hand bills does not wait; while collection is paused as drafts, it does for good."""
    invoice = draft(call, subscription, charges, reason, waits=False)
    if invoice is None or not invoice["auto_advance"]:
        return invoice
    return settle(call, finalize(call, invoice))


def settle(call: Call, invoice: Document) -> Document:
    """What follows a finalisation by itself: nothing while collection is paused for good, else an attempt to pay."""
    subscription = call.get(SUBSCRIPTIONS, invoice["parent"]["subscription_details"]["subscription"]) or {}
    behavior = (subscription.get("pause_collection") or {}).get("behavior")
    if behavior == "void":
        return close(call, invoice, "void")
    if behavior == "mark_uncollectible":
        return close(call, invoice, "uncollectible")
    return collect(call, invoice)


def collect(call: Call, invoice: Document) -> Document:
    """One attempt to pay an open invoice, at once where nothing is due."""
    if invoice["amount_due"] and owner(call, invoice)["metadata"].get("standin_payment") in ("fail", "none"):
        return _declined(call, invoice)
    return paid(call, invoice)


def paid(call: Call, invoice: Document) -> Document:
    due = invoice["amount_due"]
    settled = _changed(
        call,
        invoice,
        amount_paid=due,
        amount_remaining=0,
        attempt_count=invoice["attempt_count"] + (1 if due else 0),
        attempted=True,
        next_payment_attempt=None,
        status="paid",
        status_transitions={**invoice["status_transitions"], "paid_at": call.timestamp},
    )
    announce(call, "invoice.paid", settled)
    announce(call, "invoice.payment_succeeded", settled)
    _mark_subscription(call, settled, {"past_due": "active", "incomplete": "active"})
    return settled


def close(call: Call, invoice: Document, status: str) -> Document:
    """Void or uncollectible: nobody is asked for it any more."""
    moment, event = {
        "void": ("voided_at", "invoice.voided"),
        "uncollectible": ("marked_uncollectible_at", "invoice.marked_uncollectible"),
    }[status]
    transitions = {**invoice["status_transitions"], moment: call.timestamp}
    closed = _changed(call, invoice, status=status, next_payment_attempt=None, status_transitions=transitions)
    announce(call, event, closed)
    return closed


def owner(call: Call, owned: Document) -> Document:
    customer = call.get(CUSTOMERS, owned["customer"])
    if customer is None:
        raise LookupError(owned["customer"])
    return customer


def change_subscription(call: Call, id: str, **changes: Any) -> Document | None:
    subscription = call.get(SUBSCRIPTIONS, id)
    return call.save(SUBSCRIPTIONS, {**subscription, **changes}) if subscription else None


def _finalizes_at(call: Call) -> int:
    """After an hour, or the grace period that `/_standin/finalization` set (an account setting at Stripe)."""
    return call.timestamp + int(call.store.of(SETTINGS).get(FINALIZATION, {}).get("seconds", FINALIZATION_SECONDS))


def _declined(call: Call, invoice: Document) -> Document:
    attempts = invoice["attempt_count"] + 1
    days = _RETRY_DAYS.get(attempts) if invoice["billing_reason"] != "subscription_create" else None
    failed = _changed(
        call,
        invoice,
        attempt_count=attempts,
        attempted=True,
        next_payment_attempt=call.timestamp + days * DAY_SECONDS if days else None,
    )
    announce(call, "invoice.payment_failed", failed)
    _mark_subscription(call, failed, {"active": "past_due"})
    return failed


def _mark_subscription(call: Call, invoice: Document, statuses: dict[str, str]) -> None:
    """The latest invoice decides over its subscription's status."""
    subscription = call.get(SUBSCRIPTIONS, invoice["parent"]["subscription_details"]["subscription"])
    if subscription and subscription["latest_invoice"] == invoice["id"] and subscription["status"] in statuses:
        changed = call.save(SUBSCRIPTIONS, {**subscription, "status": statuses[subscription["status"]]})
        announce(call, "customer.subscription.updated", changed)


def _changed(call: Call, invoice: Document, **changes: Any) -> Document:
    return call.save(INVOICES, {**invoice, **changes})
