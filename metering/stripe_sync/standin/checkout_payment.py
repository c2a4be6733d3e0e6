"""What paying on the checkout page does: a customer if there is none yet, the subscription, a completed session."""

from __future__ import annotations

from dataclasses import replace

from metering.stripe_sync.standin import customers, subscriptions
from metering.stripe_sync.standin.announcements import announce
from metering.stripe_sync.standin.checkout_sessions import CHECKOUT_SESSIONS, customer_details, retrieve
from metering.stripe_sync.standin.customers import CUSTOMERS
from metering.stripe_sync.standin.endpoint import Call
from metering.stripe_sync.standin.errors import ApiError
from metering.stripe_sync.standin.store import Document
from metering.stripe_sync.standin.test_clocks import on_clock


def pay(call: Call) -> Document:
    """The completed session. One that is complete already stays so: a second press of the button buys nothing.

    Raises an ApiError when the session has expired or the payment is declined; the session then stays as it is.
    """
    session = retrieve(call)
    if session["status"] == "complete":
        return session
    if session["status"] != "open":
        raise ApiError("This Checkout Session has expired.")
    customer = _customer(call, session)
    subscription = _subscribe(on_clock(call, customer), session, customer)
    done = call.save(
        CHECKOUT_SESSIONS,
        {
            **session,
            "customer": customer["id"],
            "customer_details": customer_details(customer),
            "invoice": subscription["latest_invoice"],
            "payment_status": "paid" if session["amount_total"] else "no_payment_required",
            "status": "complete",
            "subscription": subscription["id"],
            "url": None,
        },
    )
    announce(call, "checkout.session.completed", done)
    return done


def _customer(call: Call, session: Document) -> Document:
    if session["customer"]:
        return call.named(CUSTOMERS, "customer", session["customer"], param="customer")
    email = session["customer_email"]
    return customers.create(replace(call, params={"email": email} if email else {}))


def _subscribe(call: Call, session: Document, customer: Document) -> Document:
    items = [
        {"price": line["price"], **({} if line["quantity"] is None else {"quantity": line["quantity"]})}
        for line in session["line_items"]["data"]
    ]
    params = {**session["_subscription_data"], "items": items, "payment_behavior": "error_if_incomplete"}
    return subscriptions.start(call, customer, params)
