"""What an operation takes beside its body, as OpenAPI describes it: parameters of path, query and header."""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Flask
from werkzeug.routing import (
    AnyConverter,
    FloatConverter,
    IntegerConverter,
    PathConverter,
    Rule,
    UUIDConverter,
)
from werkzeug.routing.rules import parse_converter_args

from metering.api.bodies import Query, shapes
from metering.api.operation import Answered, Example
from metering.api.schemas import Described

PLACEHOLDER = re.compile(r"<(?:(?P<converter>[a-zA-Z_]\w*)(?:\((?P<arguments>.*?)\))?:)?(?P<name>[a-zA-Z_]\w*)>")
FIELD_WORDS = re.compile(r"`(\w+)`: ")
INTEGER = re.compile(r"-?[0-9]+")

NOT_PARAMETERS = frozenset({"accept", "authorization", "content-type"})
"""Header fields that a description says otherwise, as OpenAPI wants it."""

HEADERS: Mapping[str, Described] = {
    "Idempotency-Key": {
        "description": "A name for this very request: repeated under it, the request is neither run nor charged again, "
        "but gets the stored answer.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    },
    "If-Match": {
        "description": "The `ETag` of what the caller has read: where it was changed meanwhile, the answer is 412.",
        "schema": {"type": "string"},
    },
}

PATH_WORDS = {
    "customer": "The key of the customer.",
    "event_id": "The event's `eventId`.",
    "feature": "The key of the feature, which is that of a meter.",
    "id_or_slug": "The meter's id, or its slug.",
    "key_id": "The id of the API key.",
    "meter": "The key of the meter.",
    "name": "The name of the file.",
    "operator_key_id": "The id of the API key.",
    "reservation": "The reservation's `id`.",
    "user_id": "The member's `user_id`.",
}


@dataclass(frozen=True, slots=True)
class Template:
    """An address of the URL map: `/limits/{meter}`, and the schema of each of its parameters."""

    path: str
    schemas: Mapping[str, Described]


def template_of(app: Flask, rule: Rule) -> Template:
    schemas: dict[str, Described] = {}
    for found in PLACEHOLDER.finditer(rule.rule):
        converter = app.url_map.converters[found["converter"] or "default"]
        schemas[found["name"]] = _converted(converter, *parse_converter_args(found["arguments"] or ""))
    return Template(PLACEHOLDER.sub(lambda found: f"{{{found['name']}}}", rule.rule), schemas)


def _converted(converter: type, positional: Sequence[Any], named: Mapping[str, Any]) -> Described:
    if issubclass(converter, IntegerConverter):
        lowest = named.get("min", None if named.get("signed") else 0)
        limits = {"minimum": lowest, "maximum": named.get("max")}
        return {"type": "integer"} | {name: value for name, value in limits.items() if value is not None}
    if issubclass(converter, FloatConverter):
        return {"type": "number"}
    if issubclass(converter, UUIDConverter):
        return {"type": "string", "format": "uuid"}
    if issubclass(converter, AnyConverter):
        return {"type": "string", "enum": list(positional)}
    if issubclass(converter, PathConverter):
        return {"type": "string", "minLength": 1}
    return {"type": "string", "minLength": 1, "pattern": "^[^/]+$"}


def path_parameters(template: Template, example: Example) -> Iterator[Described]:
    for name, schema in template.schemas.items():
        parameter = {"name": name, "in": "path", "required": True, "schema": schema}
        if name in PATH_WORDS:
            parameter["description"] = PATH_WORDS[name]
        value = example.path.get(name)
        if isinstance(value, Answered):
            source = {"operationId": value.operation, "member": value.member, "drained": value.drained}
            parameter["x-answered-by"] = source
        elif value is not None:
            parameter["example"] = _typed(schema, value)
        yield parameter


def _typed(schema: Described, value: Any) -> Any:
    return int(value) if schema.get("type") == "integer" and INTEGER.fullmatch(str(value)) else value


def query_parameters(query: type[Query], schema: Described, example: Example) -> Iterator[Described]:
    """A parameter for each field of the model: lists are repeated, mappings are written `name[key]`."""
    lists, mappings = shapes(query)
    words = _field_words(query)
    required = schema.get("required", ())
    for name, found in schema.get("properties", {}).items():
        shown = _without_null(found)
        parameter: Described = {"name": name, "in": "query", "required": name in required}
        if description := shown.pop("description", words.get(name)):
            parameter["description"] = description
        if name in lists:
            parameter |= {"style": "form", "explode": True}
        elif name in mappings:
            parameter |= {"style": "deepObject", "explode": True}
        if name in example.query:
            parameter["example"] = example.query[name]
        yield parameter | {"schema": shown}


def _field_words(query: type[Query]) -> Mapping[str, str]:
    """What the docstrings of a model and its bases say of its fields, as "`name`: words"."""
    words: dict[str, str] = {}
    for kind in reversed(query.__mro__[: query.__mro__.index(Query)]):
        words |= field_words(inspect.getdoc(kind) or "")[1]
    return words


def field_words(text: str) -> tuple[str, dict[str, str]]:
    """What a text says of the whole, and of each field, as "`name`: words"."""
    whole, *found = FIELD_WORDS.split(" ".join(text.split()))
    named = zip(found[::2], found[1::2], strict=True)
    return whole.strip(), {name: _sentence(said.strip().rstrip(";,")) for name, said in named}


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + ("" if words.endswith(".") else ".")


def _without_null(schema: Described) -> Described:
    """A query string can leave a parameter out, but not say null."""
    shown = {name: value for name, value in schema.items() if name != "title"}
    if shown.get("default", ...) is None:
        del shown["default"]
    choices = [one for one in shown.get("anyOf", ()) if one != {"type": "null"}]
    if len(choices) == 1:
        del shown["anyOf"]
        return {**choices[0], **shown}
    return {**shown, "anyOf": choices} if choices else shown


def flat_query(query: Mapping[str, Any]) -> dict[str, Any]:
    """As it is written in an address: the members of mappings as `name[key]`."""
    flat: dict[str, Any] = {}
    for name, value in query.items():
        flat |= {f"{name}[{key}]": one for key, one in value.items()} if isinstance(value, Mapping) else {name: value}
    return flat


def header_parameters(names: Sequence[str], example: Example) -> Iterator[Described]:
    for name in names:
        if name.lower() in NOT_PARAMETERS:
            continue
        known = HEADERS.get(name, {"schema": {"type": "string"}})
        parameter = {"name": name, "in": "header", "required": False} | known
        if name in example.headers:
            parameter["example"] = example.headers[name]
        yield parameter
