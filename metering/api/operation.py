"""An operation of the HTTP API: one declaration says who may call it, what it takes and what it answers.

    @blueprint.get("/limits/<meter>")
    @operation("Limits", scope="usage:read", query=LimitQuery, answers=LimitAnswer, refuses=("unknown-meter",))
    def limit(meter: str, query: LimitQuery) -> LimitAnswer: ...

The declaration guards the view, reads what it takes, writes what it answers, and is what the API's description
(`api/openapi.py`) is made from: none of them can part from the others. A route of the API without one is a mistake that
a test finds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from flask import Response, g
from flask.typing import ResponseReturnValue
from pydantic import BaseModel

from metering.api.auth import authenticate, current_metering, require_operator, require_scope
from metering.api.bodies import Body, Query, read, read_query
from metering.api.shapes import dump
from metering.intake.values import Caller

View = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Answered:
    """A value that another operation answers with: its name in the description, and the member of its answer.

    `drained`: it is there once usage was drained.
    """

    operation: str
    member: str
    drained: bool = False


@dataclass(frozen=True, slots=True)
class Example:
    """A request that works as it stands. `{name}`s in `path` are the parameters of the path.

    `after`: the name of an operation whose example is to be sent before it.
    """

    path: Mapping[str, str | Answered] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    status: int = 200
    after: str = ""


@dataclass(frozen=True, slots=True)
class Content:
    """A body or an answer that is no JSON object of ours: its media types, and the schema of each."""

    schemas: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """`scope` is what a key must carry, "" where anybody may call. `answers` says what comes with each status.

    `metered`: its calls are let in by limits, and count.
    """

    tag: str
    scope: str
    operators_only: bool
    query: type[Query] | None
    body: type[BaseModel] | Content | None
    answers: Mapping[int, Any]
    refuses: tuple[str, ...]
    example: Example
    headers: Sequence[str] = ()
    metered: bool = False


def operation(
    tag: str,
    *,
    scope: str,
    operators_only: bool = False,
    authenticate: Callable[[], Caller] = authenticate,
    query: type[Query] | None = None,
    body: type[Body] | Content | None = None,
    answers: Any = None,
    status: int = 200,
    refuses: tuple[str, ...] = (),
    example: Example | None = None,
    headers: Sequence[str] = (),
) -> Callable[[View], View]:
    """Declare and guard a view.

    The view gets `query` and `body` where they are declared (a `body` that is a Content it reads by itself), and
    returns an answer, (answer, status), or a response of its own.

    Args:
        scope: what the caller's key must carry; "" lets anybody in.
        authenticate: how the caller is known, where the usual way is not good enough.
        operators_only: only keys of operators, which belong to no customer, are let in.
        answers: the model of the answer, a mapping of them by status, or None for an empty 204.
        refuses: codes of the problems it may answer with, beside those that the declaration implies.
        headers: request headers it takes, named for the description.
    """
    declared = Operation(
        tag=tag,
        scope=scope,
        operators_only=operators_only,
        query=query,
        body=body,
        answers=answers if isinstance(answers, Mapping) else {status if answers else 204: answers},
        refuses=refuses,
        example=example or Example(status=status if answers else 204),
        headers=headers,
    )

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> ResponseReturnValue:
            if scope:
                g.caller = authenticate()
                require_scope(scope)
                current_metering().runtime.refresh_meters()
            if operators_only:
                require_operator()
            if query is not None:
                kwargs["query"] = read_query(query)
            if isinstance(body, type):
                kwargs["body"] = read(body)
            return _respond(view(*args, **kwargs), declared)

        return describe(guarded, declared)

    return decorate


def described(
    tag: str,
    *,
    scope: str = "meter",
    body: type[Body] | Content | None = None,
    answers: Mapping[int, Any],
    refuses: tuple[str, ...] = (),
    example: Example,
) -> Callable[[View], View]:
    """Declare a view that `@metered` guards: nothing is added to what it does."""
    declared = Operation(
        tag=tag,
        scope=scope,
        operators_only=False,
        query=None,
        body=body,
        answers=answers,
        refuses=refuses,
        example=example,
        headers=("Idempotency-Key",),
        metered=True,
    )
    return lambda view: describe(view, declared)


def describe(view: View, declared: Operation) -> View:
    view.operation = declared  # type: ignore[attr-defined]
    return view


def operation_of(view: View) -> Operation | None:
    return getattr(view, "operation", None)


def _respond(answer: Any, declared: Operation) -> ResponseReturnValue:
    if isinstance(answer, Response):
        return answer
    body, status, *headers = answer if isinstance(answer, tuple) else (answer, next(iter(declared.answers)))
    response = Response(b"" if body is None else dump(body), status, content_type="application/json")
    if body is None:
        del response.headers["Content-Type"]
    for more in headers:
        response.headers.update(more)
    return response
