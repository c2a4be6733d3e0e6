"""What happens to subscriptions and invoices by itself when time passes: each step at the moment it is due.

Source: Stripe's pages "How subscriptions work", "Invoice lifecycle" and "Use trial periods on subscriptions".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from metering.stripe_sync.standin import invoicing
from metering.stripe_sync.standin.announcements import announce
from metering.stripe_sync.standin.charges import Charge, proration
from metering.stripe_sync.standin.endpoint import Call
from metering.stripe_sync.standin.invoicing import INVOICES
from metering.stripe_sync.standin.periods import DAY_SECONDS, period_around
from metering.stripe_sync.standin.store import Document
from metering.stripe_sync.standin.subscription_documents import (
    ENDED,
    SUBSCRIPTIONS,
    in_period,
    interval,
    items,
    licensed_charges,
    period,
    usage_charges,
)

TRIAL_NOTICE_SECONDS = 3 * DAY_SECONDS
UPCOMING_SECONDS = 7 * DAY_SECONDS
INCOMPLETE_SECONDS = 23 * 3600


def subscription_due(subscription: Document) -> int | None:
    return min((time for time, _ in _subscription_steps(subscription)), default=None)


def invoice_due(invoice: Document) -> int | None:
    return min((time for time, _ in _invoice_steps(invoice)), default=None)


def step(call: Call, noun: str, id: str) -> None:
    """The step of this document that is due first; `call` is at the time it is due."""
    document = call.get(noun, id)
    if document is None:
        raise LookupError(id)
    steps = _subscription_steps(document) if noun == SUBSCRIPTIONS else _invoice_steps(document)
    _, run = min(steps, key=lambda step: step[0])
    run(call, document)


def charges_at_period_end(call: Call, subscription: Document) -> list[Charge]:
    """What the next invoice bills if nothing changes: what is pending, the usage, and the coming period."""
    end, cancel_at = period(subscription)[1], subscription["cancel_at"]
    if cancel_at is not None and cancel_at <= end:
        return [*subscription["_pending"], *usage_charges(subscription, cancel_at)]
    coming = period_around(subscription["billing_cycle_anchor"], *interval(call, subscription), end)
    return [*subscription["_pending"], *usage_charges(subscription, end), *licensed_charges(subscription, *coming)]


def begin_period(call: Call, subscription: Document, *, anchor: int | None = None, by_hand: bool = False) -> None:
    """A new period starts now, and an invoice with it, which is billed at once when somebody did it by hand."""
    at, (start, _) = call.timestamp, period(subscription)
    anchor = subscription["billing_cycle_anchor"] if anchor is None else anchor
    coming = period_around(anchor, *interval(call, subscription), at)
    owed = [
        *subscription["_pending"],
        *usage_charges(subscription, at),
        *licensed_charges(subscription, *coming),
    ]
    begun = {
        **in_period(subscription, *coming),
        "_pending": [],
        "_usage_period": [start, at],
        "billing_cycle_anchor": anchor,
        "status": "past_due" if subscription["status"] == "past_due" else "active",
    }
    call.save(SUBSCRIPTIONS, begun)
    if by_hand:
        invoicing.bill_at_once(call, begun, owed, "subscription_update")
    else:
        invoicing.draft(call, begun, owed, "subscription_cycle")
    announce_updated(call, subscription["id"])


def end(call: Call, subscription: Document, *, bills: bool, prorates: bool = False, by_hand: bool = False) -> Document:
    """Cancels. What is not billed now never is. Nobody is asked any more for the invoices that are open."""
    at, span = call.timestamp, period(subscription)
    owed = [*subscription["_pending"], *usage_charges(subscription, at)] if bills else []
    if bills and prorates and subscription["status"] != "trialing":
        owed += [proration(item, at, span, credit=True) for item in items(subscription) if item.get("quantity")]
    ended = call.save(
        SUBSCRIPTIONS,
        {
            **subscription,
            "_pending": [],
            "_usage_period": [span[0], at],
            "canceled_at": subscription["canceled_at"] or at,
            "cancellation_details": {
                **subscription["cancellation_details"],
                "reason": subscription["cancellation_details"]["reason"] or "cancellation_requested",
            },
            "ended_at": at,
            "status": "canceled",
        },
    )
    for invoice in call.all(INVOICES):
        if invoice["customer"] == ended["customer"] and invoice["next_payment_attempt"]:
            call.save(INVOICES, {**invoice, "auto_advance": False, "next_payment_attempt": None})
    if by_hand:
        invoicing.bill_at_once(call, ended, owed, "subscription_update")
    else:
        invoicing.draft(call, ended, owed, "subscription_cycle")
    ended = call.get(SUBSCRIPTIONS, ended["id"]) or ended
    announce(call, "customer.subscription.deleted", ended)
    return ended


def announce_updated(call: Call, id: str) -> None:
    changed = call.get(SUBSCRIPTIONS, id)
    if changed:
        announce(call, "customer.subscription.updated", changed)


_Step = Callable[[Call, Document], object]


def _subscription_steps(subscription: Document) -> Iterator[tuple[int, _Step]]:
    """Of two at the same moment the first counts."""
    status, (start, finish) = subscription["status"], period(subscription)
    if status == "incomplete":
        yield subscription["created"] + INCOMPLETE_SECONDS, _expire
    if status in (*ENDED, "incomplete", "paused"):
        return
    if subscription["cancel_at"] is not None:
        yield subscription["cancel_at"], _end_as_told
    if status == "trialing" and not subscription["_trial_end_told"]:
        yield max(start, subscription["trial_end"] - TRIAL_NOTICE_SECONDS), _tell_trial_end
    resumes = (subscription["pause_collection"] or {}).get("resumes_at")
    if resumes is not None:
        yield resumes, _resume_collection
    if start < finish - UPCOMING_SECONDS and subscription["_upcoming_told"] != finish:
        yield finish - UPCOMING_SECONDS, _tell_upcoming
    yield finish, _pass_period_end


def _invoice_steps(invoice: Document) -> Iterator[tuple[int, _Step]]:
    if invoice["status"] == "draft" and invoice["automatically_finalizes_at"] is not None:
        yield invoice["automatically_finalizes_at"], _finalize
    if invoice["status"] == "open" and invoice["next_payment_attempt"] is not None:
        yield invoice["next_payment_attempt"], invoicing.collect


def _finalize(call: Call, invoice: Document) -> None:
    invoicing.settle(call, invoicing.finalize(call, invoice))


def _pass_period_end(call: Call, subscription: Document) -> None:
    """A trial that ends without a payment method ends as it was told to."""
    missing = subscription["trial_settings"]["end_behavior"].get("missing_payment_method", "create_invoice")
    pays = invoicing.owner(call, subscription)["metadata"].get("standin_payment") != "none"
    if subscription["status"] != "trialing" or pays or missing == "create_invoice":
        begin_period(call, subscription)
    elif missing == "cancel":
        end(call, subscription, bills=False)
    else:
        paused = call.save(SUBSCRIPTIONS, {**subscription, "status": "paused"})
        announce(call, "customer.subscription.paused", paused)


def _end_as_told(call: Call, subscription: Document) -> None:
    end(call, subscription, bills=True)


def _expire(call: Call, subscription: Document) -> None:
    """The first payment did not come in time."""
    expired = {**subscription, "status": "incomplete_expired", "ended_at": call.timestamp}
    announce(call, "customer.subscription.updated", call.save(SUBSCRIPTIONS, expired))
    invoice = call.get(INVOICES, subscription["latest_invoice"])
    if invoice and invoice["status"] == "open":
        invoicing.close(call, invoice, "void")


def _tell_trial_end(call: Call, subscription: Document) -> None:
    told = call.save(SUBSCRIPTIONS, {**subscription, "_trial_end_told": True})
    announce(call, "customer.subscription.trial_will_end", told)


def _resume_collection(call: Call, subscription: Document) -> None:
    resumed = call.save(SUBSCRIPTIONS, {**subscription, "pause_collection": None})
    announce(call, "customer.subscription.updated", resumed)


def _tell_upcoming(call: Call, subscription: Document) -> None:
    call.save(SUBSCRIPTIONS, {**subscription, "_upcoming_told": period(subscription)[1]})
    invoice = invoicing.upcoming(call, subscription, charges_at_period_end(call, subscription))
    if invoice:
        announce(call, "invoice.upcoming", {name: value for name, value in invoice.items() if name != "id"})
