"""Problem details (RFC 9457): the one place that decides which HTTP status an error becomes.

`type` is an address on this very host, `/problems/<code>`; each is described in `docs/errors.md`. `Retry-After` is sent
with 429 and 503 only, and only up to a minute: clients that obey it would hang on a day.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from http import HTTPStatus
from math import ceil
from typing import Any

import orjson
import structlog
from flask import Response, request
from werkzeug.exceptions import HTTPException

from metering import exact_json
from metering.clock import Clock, zulu
from metering.errors import LimitExceeded, MeteringError, RateLimited

log = structlog.get_logger("metering.problems")

STATUSES = {
    "not-authenticated": 401,
    "not-permitted": 403,
    "unknown-customer": 404,
    "unknown-meter": 404,
    "unknown-user": 404,
    "not-found": 404,
    "conflict": 409,
    "usage-conflict": 409,
    "idempotency-running": 409,
    "idempotency-replay-unavailable": 409,
    "reservation-expired": 410,
    "precondition-failed": 412,
    "idempotency-mismatch": 422,
    "limit-exceeded": 429,
    "rate-limited": 429,
    "intake-unavailable": 503,
    "period-unknown": 503,
    "stripe-failed": 503,
    "plan-unknown": 503,
    "undeclared-meter": 500,
    "configuration": 500,
}
TITLES = {
    "not-authenticated": "No valid API key",
    "not-permitted": "Not permitted",
    "invalid-request": "The request is not as it should be",
    "invalid-events": "Some of the events cannot be recorded",
    "invalid-query": "This query cannot be answered",
    "bad-quantity": "This quantity cannot be counted",
    "unknown-customer": "There is no such customer",
    "unknown-meter": "There is no such meter",
    "reservation-expired": "This reservation holds nothing any more",
    "period-unknown": "No billing period holds this moment",
    "precondition-failed": "Changed meanwhile",
    "bad-webhook": "This is no webhook of Stripe's",
    "plan-unknown": "No plan of the catalog stands behind this subscription",
    "limit-exceeded": "Limit exceeded",
    "rate-limited": "Too many calls at once",
    "intake-unavailable": "Metering is unavailable for the moment",
    "usage-conflict": "This event exists with another payload",
    "idempotency-running": "The first request with this Idempotency-Key is still running",
    "idempotency-mismatch": "This Idempotency-Key belongs to another request",
    "idempotency-replay-unavailable": "The stored answer is not available",
}
# Written out, because the phrases of `http.HTTPStatus` change with the version of Python.
HTTP_CODES = {
    400: "bad-request",
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    406: "not-acceptable",
    408: "request-timeout",
    409: "conflict",
    410: "gone",
    411: "length-required",
    412: "precondition-failed",
    413: "content-too-large",
    414: "uri-too-long",
    415: "unsupported-media-type",
    422: "unprocessable-content",
    428: "precondition-required",
    429: "too-many-requests",
    431: "request-header-fields-too-large",
    500: "internal-server-error",
    503: "service-unavailable",
}
HTTP_STATUSES = {code: status for status, code in HTTP_CODES.items()}
# In place of the framework's words, which speak to somebody at a browser.
DETAILS = {
    404: "There is nothing at this address.",
    405: "This address does not take this method.",
    500: "The server made a mistake.",
}
MAX_RETRY_AFTER_SECONDS = 60
OUTAGE_RETRY_AFTER_SECONDS = 2
# What the code needs of a refusal: the state behind it, and places in what one script was given.
INTERNAL_FACTS = ("standings", "rates", "period", "item", "items")


def status_of(error: MeteringError) -> int:
    """The HTTP status of an error: 400 for bad input that has no status of its own."""
    return status_of_code(error.code)


def status_of_code(code: str) -> int:
    """The HTTP status that a problem is answered with, one of ours or of the framework."""
    return STATUSES.get(code) or HTTP_STATUSES.get(code, 400)


def title_of(code: str) -> str:
    """The kind of problem in a few words."""
    return TITLES.get(code) or HTTPStatus(status_of_code(code)).phrase


def problem(error: MeteringError, clock: Clock) -> Response:
    """The answer to a request that ended in one of our own errors."""
    status = status_of(error)
    facts = {name: value for name, value in error.facts.items() if name not in INTERNAL_FACTS}
    detail = error.message if status != HTTPStatus.INTERNAL_SERVER_ERROR else "The server made a mistake."
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error(error.code, detail=error.message)  # the caller is not told; whoever runs the app must be
    response = build(error.code, status, TITLES.get(error.code), detail, facts)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = str(OUTAGE_RETRY_AFTER_SECONDS)
    if isinstance(error, LimitExceeded) and error.resets_at is not None:
        seconds = (error.resets_at - clock()).total_seconds()
        if 0 < seconds <= MAX_RETRY_AFTER_SECONDS:
            response.headers["Retry-After"] = str(int(seconds) + 1)
    if isinstance(error, RateLimited) and error.retry_after <= MAX_RETRY_AFTER_SECONDS:
        response.headers["Retry-After"] = str(max(1, ceil(error.retry_after)))
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def http_problem(error: HTTPException) -> Response:
    """The answer to a request that the framework refused: 404, 405, 413 and their like."""
    if error.response is not None:  # abort(response)
        return error.response  # type: ignore[return-value]  # a sans-io response is not what views abort with
    status = error.code or 500
    code = HTTP_CODES.get(status, f"http-{status}")
    own = error.description if error.description != type(error).description else None
    detail = DETAILS[status] if status == HTTPStatus.INTERNAL_SERVER_ERROR else own or DETAILS.get(status)
    response = build(code, status, None, detail or error.description or "", {})
    allowed = getattr(error, "valid_methods", None)
    if allowed:
        response.headers["Allow"] = ", ".join(sorted(allowed))
    return response


def build(code: str, status: int, title: str | None, detail: str, facts: Mapping[str, Any]) -> Response:
    body = {
        "type": f"/problems/{code}",
        "title": title or HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": request.path,
        **facts,
    }
    request_id = request.environ.get("metering.request_id")
    if request_id:
        body["request_id"] = request_id
    return Response(to_json(body), status, content_type="application/problem+json")


def to_json(body: Any) -> bytes:
    """JSON with exact numbers: a Decimal is written with the digits it has, a time as RFC 3339."""
    try:
        return orjson.dumps(body, default=_encode, option=orjson.OPT_PASSTHROUGH_DATETIME)
    except TypeError:
        whole = exact_json.large_integers_apart(body)
        return orjson.dumps(whole, default=_encode, option=orjson.OPT_PASSTHROUGH_DATETIME)


def _number(value: Decimal) -> str:
    """All digits it has, without zeros that say nothing. `normalize` would round to the context's precision."""
    text = format(value, "f")
    return (text.rstrip("0").rstrip(".") if "." in text else text) if value else "0"


def _encode(value: object) -> Any:
    if isinstance(value, Decimal):
        return orjson.Fragment(_number(value))
    if isinstance(value, datetime):
        return zulu(value)
    if isinstance(value, frozenset | set | tuple):
        return list(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
