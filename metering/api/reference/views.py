"""What the page of the API shows, as frozen values, made from the description that machines read."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from shlex import quote
from typing import Any
from urllib.parse import quote as percent_encoded
from urllib.parse import urlencode

from markupsafe import Markup

from metering import manual
from metering.api.parameters import flat_query
from metering.api.reference.fields import Field, Reader
from metering.api.schemas import Described
from metering.markdown import inline, to_html
from metering.problems import title_of

PLACES = {"path": "in the path", "query": "in the query", "header": "in the header"}
ANY_MEDIA = "*/*"


@dataclass(frozen=True, slots=True)
class Parameter:
    field: Field
    place: str


@dataclass(frozen=True, slots=True)
class Shape:
    """A body or an answer of one media type. `type` says what it is where it has no fields."""

    media: str
    type: str
    words: Markup
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    phrase: str
    shapes: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    status: int
    code: str
    title: str
    gist: Markup


@dataclass(frozen=True, slots=True)
class OperationView:
    id: str
    method: str
    path: str
    summary: Markup
    words: Markup
    scope: str
    operators_only: bool
    metered: bool
    parameters: tuple[Parameter, ...]
    bodies: tuple[Shape, ...]
    answers: tuple[Answer, ...]
    problems: tuple[Problem, ...]
    curl: str


@dataclass(frozen=True, slots=True)
class Group:
    id: str
    name: str
    words: Markup
    operations: tuple[OperationView, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    title: str
    version: str
    words: Markup
    groups: tuple[Group, ...]


def reference_of(document: Described) -> Reference:
    reader = Reader(document["components"]["schemas"])
    operations = [
        (operation["tags"][0], _operation(reader, document, path, method, operation))
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    groups = tuple(
        Group(
            id=tag["name"].lower().replace(" ", "-"),
            name=tag["name"],
            words=inline(tag["description"]),
            operations=tuple(operation for name, operation in operations if name == tag["name"]),
        )
        for tag in document["tags"]
    )
    info = document["info"]
    return Reference(info["title"], info["version"], to_html(info["description"]), groups)


def _operation(reader: Reader, document: Described, path: str, method: str, found: Described) -> OperationView:
    responses = document["components"]["responses"]
    answers = {int(status): answer for status, answer in found["responses"].items() if "$ref" not in answer}
    problems = {
        int(status): responses[answer["$ref"].rpartition("/")[2]]
        for status, answer in found["responses"].items()
        if "$ref" in answer
    }
    return OperationView(
        id=found["operationId"],
        method=method.upper(),
        path=path,
        summary=inline(found["summary"]),
        words=to_html(found["description"]),
        scope=found.get("x-scope", ""),
        operators_only=found.get("x-operators-only", False),
        metered=found.get("x-metered", False),
        parameters=tuple(_parameter(reader, one) for one in found["parameters"]),
        bodies=_shapes(reader, found.get("requestBody", {})),
        answers=tuple(
            Answer(status, HTTPStatus(status).phrase, _shapes(reader, answer)) for status, answer in answers.items()
        ),
        problems=tuple(_problems(problems)),
        curl=curl_line(path, method.upper(), found),
    )


def _parameter(reader: Reader, found: Described) -> Parameter:
    words = found.get("description", "")
    field = reader.field(found["name"], found["schema"], needed=found["required"], words=words)
    return Parameter(field, PLACES[found["in"]])


def _shapes(reader: Reader, found: Described) -> tuple[Shape, ...]:
    return tuple(
        Shape(
            media="any media type" if media == ANY_MEDIA else media,
            type=reader.type_of(content["schema"]),
            words=inline(reader.about(content["schema"])),
            fields=tuple(reader.fields(content["schema"])),
        )
        for media, content in found.get("content", {}).items()
    )


def _problems(found: Mapping[int, Described]) -> Iterator[Problem]:
    for status, answer in sorted(found.items()):
        schema = answer["content"]["application/problem+json"]["schema"]
        for address in schema["allOf"][1]["properties"]["type"]["enum"]:
            code = address.rpartition("/")[2]
            entry = manual.entries().get(code)
            yield Problem(status, code, title_of(code), inline(entry.gist if entry else ""))


# -- a request that works as it stands ---------------------------------------------------------------------------------


def curl_line(path: str, method: str, found: Described) -> str:
    """The example of an operation, for a shell in which `$URL` and `$KEY` are set."""
    examples = {(one["in"], one["name"]): one["example"] for one in found["parameters"] if "example" in one}
    for (place, name), value in examples.items():
        if place == "path":
            path = path.replace(f"{{{name}}}", percent_encoded(str(value), safe=""))
    query = flat_query({name: value for (place, name), value in examples.items() if place == "query"})
    address = f"$URL{path}" + (f"?{urlencode(query, doseq=True)}" if query else "")
    parts = ["curl"]
    if method != ("POST" if "requestBody" in found else "GET"):
        parts.append(f"-X {method}")
    if found["security"]:
        parts.append('-H "Authorization: Bearer $KEY"')
    parts += [f"-H {quote(f'{name}: {value}')}" for (place, name), value in examples.items() if place == "header"]
    parts += _body(found.get("requestBody", {}))
    return " ".join([*parts, f'"{address}"' if query else address])


def _body(found: Described) -> Sequence[str]:
    for media, content in found.get("content", {}).items():
        if "example" in content:
            example: Any = content["example"]
            if isinstance(example, str):
                return [f"--data-binary {quote(example)}"]
            return [f"-H {quote(f'Content-Type: {media}')}", f"-d {quote(json.dumps(example, default=str))}"]
    return []
