"""The pages that Stripe hosts: checkout, the billing portal, and invoices. They work without JavaScript.

Whoever knows a page's URL may use it, as at Stripe: it holds an id, or a secret, that nobody guesses.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Response, current_app, make_response, redirect, render_template, request, url_for
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response as AnyResponse

from metering.stripe_sync.standin import checkout_payment, customers, subscriptions
from metering.stripe_sync.standin.checkout_sessions import CHECKOUT_SESSIONS
from metering.stripe_sync.standin.customers import CUSTOMERS
from metering.stripe_sync.standin.endpoint import Call
from metering.stripe_sync.standin.errors import ApiError
from metering.stripe_sync.standin.invoicing import INVOICES
from metering.stripe_sync.standin.portal_sessions import LINKS, PORTAL_SESSIONS
from metering.stripe_sync.standin.service import Request, Standin
from metering.stripe_sync.standin.store import Document
from metering.stripe_sync.standin.subscription_documents import SUBSCRIPTIONS, period

views = Blueprint("hosted_pages", __name__)

_DONE = {
    "canceled": "Your subscription ends with its current period.",
    "renewed": "Your subscription goes on.",
    "paying": "Your payment method is up to date.",
}
_ACTIONS = {"cancel": (True, "canceled"), "renew": (False, "renewed")}


@views.get("/c/pay/<id>")
def checkout(id: str) -> Response:
    return _checkout_page(id, None)


@views.post("/c/pay/<id>")
def pay(id: str) -> AnyResponse:
    try:
        session = _standin().act(checkout_payment.pay, _request(id))
    except ApiError as error:
        return _checkout_page(id, error)
    return redirect(session["success_url"].replace("{CHECKOUT_SESSION_ID}", session["id"]), 303)


@views.get("/p/session/<secret>")
def portal(secret: str) -> Response:
    session, show = _portal_session(secret), _reading()
    owned = {
        noun: [show.shown(one) for one in reversed(show.all(noun)) if one["customer"] == session["customer"]]
        for noun in (SUBSCRIPTIONS, INVOICES)
    }
    return _page(
        "portal.html",
        [],
        session=session,
        secret=secret,
        customer=show.get(CUSTOMERS, session["customer"]),
        subscriptions=[(one, period(one)[1], _lines(show, one["items"]["data"])) for one in owned[SUBSCRIPTIONS]],
        invoices=owned[INVOICES],
        said=_DONE.get(request.args.get("done", "")),
    )


@views.post("/p/session/<secret>/subscriptions/<id>/<action>")
def change_subscription(secret: str, id: str, action: str) -> AnyResponse:
    session = _portal_session(secret)
    subscription = _reading().get(SUBSCRIPTIONS, id)
    if action not in _ACTIONS or subscription is None or subscription["customer"] != session["customer"]:
        raise NotFound
    ends, said = _ACTIONS[action]
    try:
        _standin().act(subscriptions.update, _request(id, cancel_at_period_end=ends))
    except ApiError:
        said = ""  # it has ended meanwhile, as the page will show
    return redirect(url_for("hosted_pages.portal", secret=secret, done=said), 303)


@views.post("/p/session/<secret>/payment_method")
def change_payment_method(secret: str) -> AnyResponse:
    """No cards are kept here. A customer whose payments are made to fail pays from now on."""
    session = _portal_session(secret)
    _standin().act(customers.update, _request(session["customer"], metadata={"standin_payment": ""}))
    return redirect(url_for("hosted_pages.portal", secret=secret, done="paying"), 303)


@views.get("/i/<id>")
def invoice(id: str) -> Response:
    """An invoice to look at and to print; no PDF is made here."""
    found = _reading().get(INVOICES, id)
    if found is None or found["status"] == "draft":
        raise NotFound
    return _page("invoice.html", [], invoice=found)


def _checkout_page(id: str, error: ApiError | None) -> Response:
    show = _reading()
    session = show.get(CHECKOUT_SESSIONS, id)
    if session is None:
        raise NotFound
    response = _page(
        "checkout.html",
        [session["success_url"]],
        session=session,
        lines=_lines(show, session["line_items"]["data"]),
        error=error.message if error else None,
    )
    response.status_code = error.status if error else 200
    return response


def _lines(show: Call, items: list[Document]) -> list[dict[str, Any]]:
    """Each item with its price and product, whole."""
    found = [show.shown(item, ("price.product", "price.tiers")) for item in items]
    return [{**item, "product": item["price"]["product"]} for item in found]


def _portal_session(secret: str) -> Document:
    show = _reading()
    link = show.get(LINKS, secret)
    session = show.get(PORTAL_SESSIONS, link["session"]) if link else None
    if session is None:
        raise NotFound
    return session


def _page(template: str, form_targets: list[str], **facts: Any) -> Response:
    """`form_targets`: URLs that a form's answer may redirect to, which the policy has to name for Chromium's sake."""
    origins = " ".join(["'self'", *(f"{urlsplit(url).scheme}://{urlsplit(url).netloc}" for url in form_targets)])
    response = make_response(render_template(f"standin/{template}", **facts))
    response.headers["Content-Security-Policy"] = (
        f"default-src 'none'; style-src 'self'; form-action {origins}; frame-ancestors 'none'; base-uri 'none'"
    )
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _reading() -> Call:
    """A call that is asked for documents and changes none."""
    return _standin().act(lambda call: call)


def _request(id: str, **params: Any) -> Request:
    return Request(request.path, {"id": id}, params, None, request.host_url)


def _standin() -> Standin:
    standin: Standin = current_app.extensions["standin"]
    return standin
