"""Judges every request that goes through Stripe's library by the library's own parameter types (`stripe.params`).

The types say which parameters a call takes, which it must have, what they are and which words they may be. Nothing at
run time looks at them: mypy judges what is written down, this what is really passed.
"""

import ast
import inspect
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

import stripe._stripe_service as stripe_service
from stripe._request_options import RequestOptions
from stripe._stripe_object import UntypedStripeObject
from typing_extensions import is_typeddict

_OPTIONS = frozenset(RequestOptions.__annotations__)


class WrongParameters(AssertionError):
    """A request that the library's types do not allow."""


@contextmanager
def judged_requests() -> Iterator[list[str]]:
    """Every request through a `StripeClient` of this process is judged before it is sent; those that were, in order.

    A wrong one raises where it is made, and once more at the end, should somebody have caught it there.

    Raises:
        WrongParameters: what was passed, and what is wrong with it.
    """
    judged: list[str] = []
    wrong: list[WrongParameters] = []
    original = stripe_service.StripeService._request

    def request(self: Any, method: str, url: str, *args: Any, **named: Any) -> Any:
        caller = sys._getframe(1).f_code.co_name
        params = named.get("params", args[0] if args else None)
        judged.append(f"{method} {url}")
        if faults := list(faults_in(params, params_type(type(self), caller))):
            wrong.append(WrongParameters(f"{type(self).__name__}.{caller}: {'; '.join(faults)}"))
            raise wrong[-1]
        return original(self, method, url, *args, **named)

    stripe_service.StripeService._request = request  # type: ignore[method-assign]
    try:
        yield judged
    finally:
        stripe_service.StripeService._request = original  # type: ignore[method-assign]
    if wrong:
        raise wrong[0]


def faults_in(params: Mapping[str, Any] | None, declared: Any) -> Iterator[str]:
    """What is wrong with the parameters of a call; `declared` is their TypedDict, None where it takes none."""
    if declared is None:
        yield from [f"takes no parameters, but got {sorted(params)}"] if params else []
    else:
        yield from _faults(params or {}, declared, "params")


@cache
def params_type(service: type, method: str) -> Any:
    """The TypedDict of a service's method, which its module imports for type checkers only."""
    function: Callable[..., Any] = getattr(service, method)
    annotation = function.__annotations__.get("params")
    if annotation is None:
        return None
    names = {node.id for node in ast.walk(ast.parse(_text(annotation))) if isinstance(node, ast.Name)}
    (name,) = {name for name in names if name.endswith("Params")}
    for node in ast.walk(ast.parse(inspect.getsource(import_module(service.__module__)))):
        if isinstance(node, ast.ImportFrom) and node.module and name in {alias.name for alias in node.names}:
            return getattr(import_module(node.module), name)
    raise LookupError(f"{service.__module__} imports no {name}")


def _text(annotation: Any) -> str:
    """An annotation as it was written: `"X"`, or Optional of it."""
    if isinstance(annotation, str):
        return annotation
    return " ".join(part.__forward_arg__ for part in get_args(annotation) if hasattr(part, "__forward_arg__"))


def _faults(value: Any, declared: Any, where: str) -> Iterator[str]:
    origin, parts = get_origin(declared), get_args(declared)
    if declared is Any:
        return
    if is_typeddict(declared):
        yield from _record_faults(value, declared, where)
    elif origin in (NotRequired, Required):
        yield from _faults(value, parts[0], where)
    elif origin in (Union, types.UnionType) and (words := _words(parts)):
        yield from _faults(value, words, where)
    elif origin in (Union, types.UnionType):
        tried = [list(_faults(value, part, where)) for part in parts]
        yield from min(tried, key=len) if all(tried) else []
    elif origin is Literal:
        if value not in parts or (isinstance(value, bool) and True not in parts):
            yield f"{where} is {value!r}, not one of {parts}"
    elif origin is list:
        if not isinstance(value, list):
            yield f"{where} is {value!r}, not a list"
            return
        for place, item in enumerate(value):
            yield from _faults(item, parts[0], f"{where}[{place}]")
    elif origin in (dict, UntypedStripeObject):
        if not isinstance(value, dict):
            yield f"{where} is {value!r}, not a hash"
            return
        for key, item in value.items():
            yield from _faults(key, str, f"key {key!r} of {where}")
            yield from _faults(item, parts[-1], f"{where}[{key}]")
    elif isinstance(declared, type):
        wanted = (int, float) if declared is float else declared
        if not isinstance(value, wanted) or isinstance(value, bool) is not (declared in (bool, object)):
            yield f"{where} is {value!r}, not {declared.__name__}"
    else:
        raise TypeError(f"{where}: no rule for {declared!r}")


def _words(parts: tuple[Any, ...]) -> Any:
    """The words that the library knows where it leaves room for new ones: those we use must be among them."""
    literals = [part for part in parts if get_origin(part) is Literal and get_args(part) != ("",)]
    return literals[0] if len(literals) == 1 and set(parts) == {literals[0], str} else None


def _record_faults(value: Any, declared: Any, where: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{where} is {value!r}, not a hash"
        return
    fields = _fields(declared)
    yield from (f"{where}[{name}] is unknown" for name in value if name not in fields)
    yield from (
        f"{where}[{name}] is missing" for name in sorted(declared.__required_keys__ - _OPTIONS) if name not in value
    )
    for name in value.keys() & fields.keys():
        yield from _faults(value[name], fields[name], f"{where}[{name}]")


@cache
def _fields(declared: Any) -> dict[str, Any]:
    """Its own fields: those of the options, which are no parameters, name types that are there for checkers only."""
    own = {name: kind for name, kind in declared.__annotations__.items() if name not in _OPTIONS}
    holder = type("Fields", (), {"__annotations__": own, "__module__": declared.__module__})
    return get_type_hints(holder, include_extras=True)
