"""The stand-in as a Flask application: HTTP in, `service.Standin` behind, Stripe's headers out."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from pathlib import Path

import flask
from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from metering.stripe_sync.standin import (
    account,
    checkout_sessions,
    customer_search,
    customers,
    error_reports,
    event_destinations,
    event_summaries,
    events,
    hosted_pages,
    inspection,
    invoice_previews,
    invoices,
    meter_event_adjustments,
    meter_events,
    meters,
    overview,
    portal_sessions,
    prices,
    products,
    subscription_items,
    subscriptions,
    test_clocks,
    thin_events,
    webhook_controls,
    webhook_endpoints,
)
from metering.stripe_sync.standin.authentication import authenticate
from metering.stripe_sync.standin.background import Background
from metering.stripe_sync.standin.deliverer import Deliverer
from metering.stripe_sync.standin.endpoint import Endpoint
from metering.stripe_sync.standin.errors import Answer, ApiError, server_error, unrecognized_url
from metering.stripe_sync.standin.idempotency import Attempt
from metering.stripe_sync.standin.params import Pairs, nest
from metering.stripe_sync.standin.service import Request, Standin
from metering.stripe_sync.standin.v2 import json_pairs
from metering.stripe_sync.standin.version import API_VERSION

ENDPOINTS: tuple[Endpoint, ...] = (
    *account.ENDPOINTS,
    *customers.ENDPOINTS,
    *customer_search.ENDPOINTS,
    *meters.ENDPOINTS,
    *meter_events.ENDPOINTS,
    *event_summaries.ENDPOINTS,
    *meter_event_adjustments.ENDPOINTS,
    *products.ENDPOINTS,
    *prices.ENDPOINTS,
    *subscriptions.ENDPOINTS,
    *subscription_items.ENDPOINTS,
    *invoice_previews.ENDPOINTS,
    *invoices.ENDPOINTS,
    *test_clocks.ENDPOINTS,
    *events.ENDPOINTS,
    *webhook_endpoints.ENDPOINTS,
    *event_destinations.ENDPOINTS,
    *thin_events.ENDPOINTS,
    *checkout_sessions.ENDPOINTS,
    *portal_sessions.ENDPOINTS,
)


def create_standin(store_folder: Path, clock: Callable[[], float]) -> Flask:
    """A stand-in over a store folder (made when missing), told the time in Unix seconds by `clock`.

    By itself it does nothing: whoever serves it starts `background(app)`.

    Raises StoreInUseError when another stand-in has the folder open, CorruptJournalError when its journal can't be
    read. The service is `app.extensions["standin"]`; close it to free the folder.
    """
    app = Flask(__name__, static_url_path="/_standin/static")
    # A dropped connection must reach the server as what it is, in tests too.
    app.config["PROPAGATE_EXCEPTIONS"] = True
    standin = app.extensions["standin"] = Standin(store_folder, clock)
    for endpoint in ENDPOINTS:
        name = f"{endpoint.method} {endpoint.path}".replace(".", "_")
        app.add_url_rule(endpoint.path, name, _view(standin, endpoint), methods=[endpoint.method])
    app.extensions["deliverer"] = Deliverer(standin)
    for pages in (overview, inspection, webhook_controls, hosted_pages):
        app.register_blueprint(pages.views)
    app.before_request(_name_request)
    app.after_request(_stripe_headers)
    app.register_error_handler(ApiError, lambda error: _response(error.answer()))
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)
    return app


def background(app: Flask) -> Background:
    """What the stand-in does without a request: what time brings, reports of errors, deliveries."""
    standin: Standin = app.extensions["standin"]
    deliverer: Deliverer = app.extensions["deliverer"]
    return Background([lambda: standin.act(error_reports.report_due), deliverer.deliver_due])


def _view(standin: Standin, endpoint: Endpoint) -> Callable[..., Response]:
    def view(**ids: str) -> Response:
        authenticate(request.authorization)
        pairs = _pairs()
        attempt = _attempt(pairs)
        with standin.keys.running(attempt):
            fault = standin.faults.take(request.method, request.path, pairs)
            fault.on_arrival()
            params = endpoint.params.read(nest(pairs), "") or {}
            endpoint.check_expand(params)
            answer = standin.run(endpoint, Request(request.path, ids, params, attempt, request.host_url), fault)
        fault.on_answer()
        return _response(answer)

    return view


def _pairs() -> Pairs:
    """The parameters of the query and of the form (of API v2, of the JSON body), in their order."""
    if request.path.startswith("/v2/") and request.method == "POST":
        return json_pairs(request.get_json(silent=True))
    if request.method == "POST" and request.mimetype not in ("", "application/x-www-form-urlencoded"):
        raise ApiError(
            "Invalid request (check that your POST content type is application/x-www-form-urlencoded). "
            "If you have any questions, we can help at https://support.stripe.com/."
        )
    return [*request.args.items(multi=True), *request.form.items(multi=True)]


def _attempt(pairs: Pairs) -> Attempt | None:
    """Only POSTs heed a key: a GET changes nothing."""
    key = request.headers.get("Idempotency-Key")
    return Attempt.of(key, request.path, pairs, g.request_id) if key and request.method == "POST" else None


def _response(answer: Answer) -> Response:
    response = Response(json.dumps(answer.body, indent=2), answer.status, mimetype="application/json")
    response.headers.update(answer.headers)
    return response


def _name_request() -> None:
    g.request_id = f"req_{secrets.token_hex(7)}"


def _stripe_headers(response: Response) -> Response:
    response.headers["Request-Id"] = g.request_id
    response.headers["Stripe-Version"] = request.headers.get("Stripe-Version", API_VERSION)
    if key := request.headers.get("Idempotency-Key"):
        response.headers["Idempotency-Key"] = key
    return response


def _http_error(error: HTTPException) -> Response:
    """What is no path of Stripe's, or another method's, gets Stripe's 404."""
    if error.code in (404, 405):
        return _response(unrecognized_url(request.method, request.path).answer())
    return _response(ApiError(error.description or error.name, status=error.code or 500).answer())


def _unexpected(error: Exception) -> Response:
    """A defect of the stand-in itself: logged, and answered as Stripe answers its own."""
    if isinstance(error, ConnectionError):
        raise error
    flask.current_app.logger.exception("the stand-in failed to answer")
    return _response(server_error().answer())
