"""`@metered` and `usage`: metering on a Flask endpoint.

    @app.post("/complete")
    @metered("api_call", reserve={"tokens": lambda request: request.json["max_tokens"]})
    def complete():
        text = model(request.json["prompt"])
        usage.set("tokens", count_tokens(text))
        return {"text": text}

One path for all: admit, run the view, settle. A streaming answer settles when it closes, with what was produced.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from decimal import Decimal
from functools import wraps
from time import perf_counter
from typing import Any

from flask import Request, Response, current_app, make_response, request
from werkzeug.exceptions import HTTPException

from metering.calls.call import Call
from metering.calls.gate import ask_by_key, let_in
from metering.calls.headers import limit_headers
from metering.calls.idempotency import idempotency_key, pack_answer, unpack_answer
from metering.catalog.quantities import exact
from metering.errors import BadQuantity, LimitExceeded, MeteringError, NotAuthenticated
from metering.intake.values import Ask, IdempotencyKey, MeterStanding, Replay, Span
from metering.problems import build, problem
from metering.service import Metering

Quantity = int | float | Decimal | str | Callable[[Request], Any]
ChargeIf = Callable[[Response], bool]

_current: ContextVar[Call | None] = ContextVar("metering_call", default=None)


class Usage:
    """What the running call uses. Outside of a metered call, and with METERING_ENABLED=false, nothing happens."""

    @property
    def customer(self) -> str | None:
        """The key of the customer that is billed for this call."""
        call = _current.get()
        return call.customer if call else None

    def set(self, meter: str, quantity: Any) -> None:
        """The real figure of a declared meter, in its unit. Raises UndeclaredMeter, BadQuantity."""
        call = _current.get()
        if call:
            call.set(meter, quantity)

    def add(self, meter: str, quantity: Any) -> None:
        """More of a declared meter, in its unit. Raises UndeclaredMeter, BadQuantity."""
        call = _current.get()
        if call:
            call.add(meter, quantity)


usage = Usage()


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
        charge_if: whether to charge for an answer below 500; by default all of them are charged.
        scope: what an API key must carry.
    """
    wanted = {meter: quantity, **(reserve or {})}

    def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            metering: Metering = current_app.extensions["metering"]
            if not metering.enabled:
                return current_app.ensure_sync(view)(*args, **kwargs)
            return _serve(metering, meter, wanted, charge_if, scope, lambda: view_answer(view, args, kwargs))

        return guarded

    return decorate


def view_answer(view: Callable[..., Any], args: Iterable[Any], kwargs: Mapping[str, Any]) -> Response:
    """The view's answer; one it raised (`abort(404)`) is an answer too."""
    try:
        return make_response(current_app.ensure_sync(view)(*args, **kwargs))
    except HTTPException as error:
        if error.code is None or error.code >= 500:
            raise
        return make_response(current_app.handle_http_exception(error))


def _serve(
    metering: Metering,
    meter: str,
    wanted: Mapping[str, Quantity],
    charge_if: ChargeIf | None,
    scope: str,
    run: Callable[[], Response],
) -> Response:
    clock = metering.runtime.clock
    try:
        amounts = {name: _amount(name, value) for name, value in wanted.items()}
        call = _let_in(metering, meter, amounts, scope)
    except LimitExceeded as refused:
        return _with_headers(metering, problem(refused, clock), refused.facts["standings"], refused.facts["period"])
    except MeteringError as refused:
        return problem(refused, clock)
    if isinstance(call, Replay):
        return _replayed(call)
    started = perf_counter()
    mark = _current.set(call)
    try:
        response = run()
    except BaseException:
        metering.calls.release(call)
        raise
    finally:
        _current.reset(mark)
    return _finish(metering, call, response, charge_if, started)


def _let_in(metering: Metering, meter: str, amounts: Mapping[str, Decimal], scope: str) -> Call | Replay:
    catalog = metering.runtime.catalog
    held = {name: catalog.meter(name).to_units(amount) for name, amount in amounts.items()}
    ask = Ask(reserve=held, scope=scope, idempotency=_idempotency(metering))
    if metering.customer_of is None:
        ask, partition = ask_by_key(metering, api_key(request), ask)
    else:
        customer = metering.customer_of()
        if not customer:
            raise NotAuthenticated("nobody is signed in")
        ask = Ask(reserve=held, customer=customer, idempotency=ask.idempotency)
        partition = metering.runtime.intake.partition(customer)
    return let_in(metering, ask, partition, meter, amounts[meter])


def api_key(request: Request) -> str | None:
    """The API key of a request: a bearer token (RFC 6750), or the `X-API-Key` header."""
    if request.authorization is not None and request.authorization.type == "bearer":
        return request.authorization.token
    return request.headers.get("X-API-Key")


def _amount(meter: str, value: Quantity) -> Decimal:
    """Raises BadQuantity when the request does not hold the quantity that the endpoint asks of it."""
    try:
        return exact(value(request) if callable(value) else value)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadQuantity(f"{meter}: the request does not say how much: {error}", meter=meter) from None


def _idempotency(metering: Metering) -> IdempotencyKey | None:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    route = request.url_rule.rule if request.url_rule else request.path
    return idempotency_key(
        key,
        method=request.method,
        route=route,
        request=(request.full_path.encode(), request.content_type.encode() if request.content_type else b"", body()),
        window_seconds=metering.settings.idempotency_window_seconds,
    )


def body() -> bytes:
    return request.get_data(cache=True)


def _finish(metering: Metering, call: Call, response: Response, charge_if: ChargeIf | None, started: float) -> Response:
    if response.status_code >= 500 or (charge_if is not None and not charge_if(response)):
        metering.calls.release(call)
        return _with_headers(metering, response, call.admission.given_back(), call.admission.period)
    route = request.url_rule.rule if request.url_rule else request.path
    facts = {"path": route, "method": request.method, "status": response.status_code}
    if response.is_streamed:
        _settle_on_close(metering, call, response, facts, started)
        return _with_headers(metering, response, call.admission.meters, call.admission.period)
    try:
        settlement = metering.calls.settle(call, _timed(facts, started), answer=_answer(metering, call, response))
    except MeteringError as refused:
        return problem(refused, metering.runtime.clock)
    settled = {standing.meter for standing in settlement.meters}
    unsettled = [standing for standing in call.admission.given_back() if standing.meter not in settled]
    return _with_headers(metering, response, [*settlement.meters, *unsettled], call.admission.period)


def _settle_on_close(
    metering: Metering, call: Call, response: Response, facts: Mapping[str, Any], started: float
) -> None:
    """Settle when the server closes the answer: at its end, or when the client has gone away."""
    limit = metering.settings.idempotency_max_bytes if call.admission.idempotency else 0
    produced = _Produced(call, response.response, limit)
    response.response = produced
    status, headers = response.status_code, list(response.headers)

    def settle() -> None:
        answer = pack_answer(status, headers, produced.kept) if call.admission.idempotency else b""
        metering.calls.settle(call, _timed(facts, started), answer=answer)

    response.call_on_close(settle)


class _Produced:
    """A streamed body: `usage` works while it is produced, and its beginning is kept if it may have to be replayed."""

    def __init__(self, call: Call, parts: Iterable[bytes] | Iterable[str], limit: int) -> None:
        self._call = call
        self._parts = parts
        self._iterator: Iterator[Any] = iter(parts)
        self._limit = limit
        self._kept: list[bytes] | None = []
        self._complete = False

    def __iter__(self) -> "_Produced":
        return self

    def __next__(self) -> Any:
        mark = _current.set(self._call)
        try:
            part = next(self._iterator)
        except StopIteration:
            self._complete = True
            raise
        finally:
            _current.reset(mark)
        self._keep(part.encode() if isinstance(part, str) else part)
        return part

    def _keep(self, part: bytes) -> None:
        if self._kept is not None:
            self._limit -= len(part)
            self._kept = [*self._kept, part] if self._limit >= 0 else None

    @property
    def kept(self) -> bytes | None:
        """The whole body, or None when it was too long or broken off."""
        return b"".join(self._kept) if self._complete and self._kept is not None else None

    def close(self) -> None:
        if hasattr(self._parts, "close"):
            self._parts.close()


def _timed(facts: Mapping[str, Any], started: float) -> dict[str, Any]:
    return {**facts, "duration_ms": round((perf_counter() - started) * 1000)}


def _answer(metering: Metering, call: Call, response: Response) -> bytes:
    if call.admission.idempotency is None:
        return b""
    whole = response.get_data()
    kept = whole if len(whole) <= metering.settings.idempotency_max_bytes else None
    return pack_answer(response.status_code, list(response.headers), kept)


def _replayed(replay: Replay) -> Response:
    status, headers, stored = unpack_answer(replay.answer)
    if stored is None:
        detail = "The first request was served, but its answer was too large to be kept."
        response = build("idempotency-replay-unavailable", 409, None, detail, {})
    else:
        response = Response(stored, status, headers)
    response.headers["Idempotent-Replayed"] = "true"
    return response


def _with_headers(metering: Metering, response: Response, standings: Iterable[MeterStanding], period: Span) -> Response:
    meters = metering.runtime.catalog.meters
    response.headers.update(limit_headers(meters, list(standings), period, metering.runtime.clock()))
    return response
