"""`@metered` and `usage`: metering on a Flask endpoint.

    @app.post("/complete")
    @metered("api_call", reserve={"tokens": lambda request: request.json["max_tokens"]})
    def complete():
        text = model(request.json["prompt"])
        usage.set("tokens", count_tokens(text))
        return {"text": text}

One path for all: admit, run the view, settle. A streaming answer settles when it closes, with what was produced.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from functools import wraps
from inspect import iscoroutinefunction
from time import perf_counter
from typing import Any, NamedTuple

from flask import Request, Response, current_app, make_response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from metering.calls import current
from metering.calls.call import Call, Calls
from metering.calls.headers import limit_headers
from metering.calls.idempotency import idempotency_key, pack_answer, unpack_answer
from metering.calls.produced import Produced
from metering.calls.rehearsal import Rehearsal
from metering.calls.rehearsal import running as rehearsing
from metering.catalog import Catalog, Meter
from metering.catalog.quantities import exact
from metering.errors import (
    BadQuantity,
    ConfigurationError,
    IntakeUnavailable,
    LimitExceeded,
    MeteringError,
    NotAuthenticated,
    RateLimited,
    UnknownMeter,
)
from metering.gate import bearer_of, check_caller, let_in, rehearsed
from metering.intake.values import Admission, Ask, IdempotencyKey, MeterStanding, Replay, Settlement, Standing
from metering.problems import build, problem
from metering.service import CustomerOf, Metering

Quantity = int | float | Decimal | str | Callable[[Request], Any]
ChargeIf = Callable[[Response], bool]

NOTHING_DONE = (413, 429)
"""Refusals that a view may still answer with: a body too large to be read, a limit met inside."""

usage = current.Usage()


@dataclass(slots=True)
class Terms:
    """What the decorator was told. `wanted`: by meter, what to reserve; `meter` is the main one.

    `fixed` remembers the amounts of quantities that are the same in each request, and the catalog they were checked by.
    """

    meter: str
    wanted: Mapping[str, Quantity]
    charge_if: ChargeIf | None
    scope: str
    fixed: "tuple[Catalog, Amounts] | None" = None


class Amounts(NamedTuple):
    """What a call asks for: `quantity` of the main meter, in its unit, and by meter the scaled units to hold."""

    quantity: Decimal
    held: Mapping[str, int]


def metered(
    meter: str,
    *,
    quantity: Quantity = 1,
    reserve: Mapping[str, Quantity] | None = None,
    charge_if: ChargeIf | None = None,
    scope: str = "meter",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enforce limits before the view and record what it used after it.

    Args:
        meter: the meter that each call counts on; `usage.set` replaces its quantity by the real figure.
        quantity: how much, in the meter's unit, or a function of the request: what is reserved, and recorded unless
            the view says otherwise.
        reserve: further meters the call may use and what to hold of each; recorded is what the view reports.
        charge_if: whether to charge for an answer; by default all are charged. One of 5xx, and 413 and 429, which say
            that nothing was done, never is.
        scope: what an API key must carry.
    """
    terms = Terms(meter, {meter: quantity, **(reserve or {})}, charge_if, scope)

    def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
        is_async = iscoroutinefunction(view)

        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            # The request itself, once: each look through Flask's proxy costs as much as a small function.
            asked: Request = request._get_current_object()  # type: ignore[attr-defined]
            metering: Metering = current_app.extensions["metering"]
            run = current_app.ensure_sync(view) if is_async else view
            if metering.enabled or rehearsing():
                return _serve(metering, terms, asked, lambda: _answer(metering, run, args, kwargs))
            return run(*args, **kwargs)

        return guarded

    return decorate


def api_key(request: Request) -> str | None:
    """The API key of a request: a bearer token (RFC 6750), or the `X-API-Key` header."""
    scheme, _, token = request.environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else request.headers.get("X-API-Key")


def _serve(metering: Metering, terms: Terms, asked: Request, run: Callable[[], Response]) -> Response:
    try:
        call = _let_in(metering, terms, asked)
    except (LimitExceeded, RateLimited) as refused:
        return _refused(metering, refused)
    except MeteringError as refused:
        return problem(refused, metering.clock)
    if isinstance(call, Replay):
        return _replayed(metering, terms, call)
    started = perf_counter()
    try:
        with current.running(call):
            response = run()
        return _finish(metering, terms, asked, call, response, started)
    except BaseException:
        _calls(metering).release(call)
        raise


def _calls(metering: Metering) -> Calls | Rehearsal:
    return rehearsing() or metering.calls


# -- before the view ---------------------------------------------------------------------------------------------


def _amounts(metering: Metering, terms: Terms) -> Amounts:
    """Raises BadQuantity."""
    catalog = metering.catalog
    if terms.fixed is not None and terms.fixed[0] is catalog:
        return terms.fixed[1]
    quantities = {name: _amount(name, value) for name, value in terms.wanted.items()}
    held = {name: _declared(metering, name).to_units(quantity) for name, quantity in quantities.items()}
    amounts = Amounts(quantities[terms.meter], held)
    if not any(callable(value) for value in terms.wanted.values()):
        terms.fixed = (catalog, amounts)
    return amounts


def _declared(metering: Metering, name: str) -> Meter:
    """A meter that the decorator names. Not in the catalog, it is the host's mistake, never the caller's."""
    try:
        return metering.meter(name)
    except UnknownMeter:
        raise ConfigurationError(f"@metered names {name!r}, which the catalog does not know") from None


def _let_in(metering: Metering, terms: Terms, asked: Request) -> Call | Replay:
    try:
        _check_size(asked)
        quantity, held = _amounts(metering, terms)
        idempotency = _idempotency(metering, asked)
    except (MeteringError, HTTPException):
        _check_caller(metering, terms)  # a stranger is told that it is one, whatever else is wrong
        raise
    if rehearsing():
        customer = metering.customer_of() if metering.customer_of else None
        return rehearsed(metering, Ask(held, customer=customer or ""), terms.meter, quantity)
    if metering.customer_of is None:
        digest, partition = bearer_of(metering, api_key(asked))
        ask = Ask(held, key_digest=digest, scope=terms.scope, idempotency=idempotency)
    else:
        ask = Ask(held, customer=_signed_in(metering.customer_of), idempotency=idempotency)
        partition = metering.runtime.intake.partition(ask.customer)
    return let_in(metering, ask, partition, terms.meter, quantity)


def _signed_in(customer_of: CustomerOf) -> str:
    customer = customer_of()
    if not customer:
        raise NotAuthenticated("nobody is signed in")
    return customer


def _check_caller(metering: Metering, terms: Terms) -> None:
    if rehearsing():
        return
    if metering.customer_of is not None:
        _signed_in(metering.customer_of)
        return
    with suppress(IntakeUnavailable):  # nobody can tell: then what else is wrong may be told
        check_caller(metering, api_key(request), terms.scope)


def _check_size(asked: Request) -> None:
    """Raises RequestEntityTooLarge before anything is reserved, rather than where the view first looks at the body."""
    if not asked.environ.get("CONTENT_LENGTH"):
        return
    size, most = asked.content_length, asked.max_content_length
    if size is not None and most is not None and size > most:
        raise RequestEntityTooLarge(f"The body holds {size} bytes; at most {most} are taken.")


def _amount(meter: str, value: Quantity) -> Decimal:
    """Raises BadQuantity when the request does not hold the quantity that the endpoint asks of it."""
    try:
        return exact(value(request) if callable(value) else value)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        if isinstance(error, HTTPException):  # a missing form field: it says itself what is wrong
            raise
        raise BadQuantity(f"{meter}: the request does not say how much: {error}", meter=meter) from None


def _idempotency(metering: Metering, asked: Request) -> IdempotencyKey | None:
    key = asked.environ.get("HTTP_IDEMPOTENCY_KEY")
    if key is None:
        return None
    content_type = (asked.content_type or "").encode()
    return idempotency_key(
        key,
        method=asked.method,
        route=_route(asked),
        request=(asked.full_path.encode(), content_type, asked.get_data(cache=True)),
        window_seconds=metering.settings.idempotency_window_seconds,
    )


def _route(asked: Request) -> str:
    return asked.url_rule.rule if asked.url_rule else asked.path


# -- the view and after it ---------------------------------------------------------------------------------------


def _answer(metering: Metering, view: Callable[..., Any], args: Any, kwargs: Any) -> Response:
    """The view's answer; what an error that it raises is answered with, if the app knows one, is an answer too."""
    try:
        return make_response(view(*args, **kwargs))
    except LimitExceeded as refused:
        return _refused(metering, refused)
    except Exception as error:
        return make_response(current_app.handle_user_exception(error))


def _finish(
    metering: Metering, terms: Terms, asked: Request, call: Call, response: Response, started: float
) -> Response:
    if not _charged(terms, response):
        _calls(metering).release(call)
        return _with_headers(metering, response, call.admission.given_back(), call.admission)
    facts = {"path": _route(asked), "method": asked.method, "status": response.status_code}
    if response.is_streamed:
        _settle_on_close(metering, call, response, facts, started)
        return _with_headers(metering, response, call.admission.meters, call.admission)
    stored = b""
    if call.admission.idempotency is not None:
        whole = response.get_data()
        kept = whole if len(whole) <= metering.settings.idempotency_max_bytes else None
        stored = pack_answer(response.status_code, response.headers, kept)
    try:
        settlement = _calls(metering).settle(call, _timed(facts, started), answer=stored)
    except MeteringError as refused:
        return problem(refused, metering.clock)
    return _with_headers(metering, response, _after(settlement, call.admission), call.admission)


def _after(settlement: Settlement, admission: Admission) -> Sequence[MeterStanding]:
    """Where all meters of a call stand that has settled; those it did not use have what it held of them back."""
    if len(settlement.meters) == len(admission.meters):
        return settlement.meters
    settled = {standing.meter for standing in settlement.meters}
    return [*settlement.meters, *(one for one in admission.given_back() if one.meter not in settled)]


def _charged(terms: Terms, response: Response) -> bool:
    if response.status_code >= 500 or response.status_code in NOTHING_DONE:
        return False
    return terms.charge_if is None or terms.charge_if(response)


def _settle_on_close(
    metering: Metering, call: Call, response: Response, facts: Mapping[str, Any], started: float
) -> None:
    calls, idempotent = _calls(metering), call.admission.idempotency is not None
    status, headers = response.status_code, list(response.headers)

    def settle(whole: bytes | None) -> None:
        answer = pack_answer(status, headers, whole) if idempotent else b""
        calls.settle(call, _timed(facts, started), answer=answer, delivered=True)

    response.response = Produced(
        response.response,
        keep_bytes=metering.settings.idempotency_max_bytes if idempotent else 0,
        running=lambda: current.running(call),
        on_close=settle,
        on_lost=lambda: calls.release(call),
    )


def _timed(facts: Mapping[str, Any], started: float) -> dict[str, Any]:
    return {**facts, "duration_ms": round((perf_counter() - started) * 1000)}


# -- answers that are not the view's -----------------------------------------------------------------------------


def _refused(metering: Metering, refused: LimitExceeded | RateLimited) -> Response:
    facts = refused.facts
    headers = limit_headers(
        metering.catalog.meters, facts["standings"], facts["rates"], facts["period"], metering.clock()
    )
    response = problem(refused, metering.clock)
    response.headers.update(headers)
    return response


def _replayed(metering: Metering, terms: Terms, replay: Replay) -> Response:
    status, headers, stored = unpack_answer(replay.answer)
    if stored is None:
        detail = "The first request was served, but its answer was too large to be kept, or broken off."
        response = build("idempotency-replay-unavailable", 409, None, detail, {})
    else:
        response = Response(stored, status, headers)
    response.headers["Idempotent-Replayed"] = "true"
    with suppress(MeteringError):  # the answer is good without them
        standing = metering.standing(replay.customer, terms.wanted, key_id=replay.key_id)
        _with_headers(metering, response, standing.meters, standing)
    return response


def _with_headers(
    metering: Metering, response: Response, standings: Sequence[MeterStanding], where: Admission | Standing
) -> Response:
    headers = limit_headers(metering.catalog.meters, standings, where.rates, where.period, metering.clock())
    response.headers.update(headers)
    return response
