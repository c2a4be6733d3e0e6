"""What the page of the API shows, as frozen values, made from the description that machines read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from markupsafe import Markup

from metering import manual
from metering.api.reference.curl import SETUP, Request, curl_lines, requests_of
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
class Media:
    """A media type, and what it holds: `object`, `array of objects`."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Shape:
    """A body or an answer, in each of the media types that hold the same fields."""

    media: tuple[Media, ...]
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
    setup: str
    groups: tuple[Group, ...]


def reference_of(document: Described) -> Reference:
    reader = Reader(document["components"]["schemas"])
    requests = requests_of(document)
    operations = [
        (request.found["tags"][0], _operation(reader, document, request, curl_lines(requests, name)))
        for name, request in requests.items()
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
    return Reference(info["title"], info["version"], to_html(info["description"]), SETUP, groups)


def _operation(reader: Reader, document: Described, request: Request, curl: str) -> OperationView:
    found = request.found
    responses = document["components"]["responses"]
    answers = {int(status): answer for status, answer in found["responses"].items() if "$ref" not in answer}
    problems = {
        int(status): responses[answer["$ref"].rpartition("/")[2]]
        for status, answer in found["responses"].items()
        if "$ref" in answer
    }
    return OperationView(
        id=found["operationId"],
        method=request.method,
        path=request.path,
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
        curl=curl,
    )


def _parameter(reader: Reader, found: Described) -> Parameter:
    words = found.get("description", "")
    field = reader.field(found["name"], found["schema"], needed=found["required"], words=words)
    return Parameter(field, PLACES[found["in"]])


def _shapes(reader: Reader, found: Described) -> tuple[Shape, ...]:
    """What media types have in common is said once."""
    same: dict[tuple[Markup, tuple[Field, ...]], list[Media]] = {}
    for name, content in found.get("content", {}).items():
        schema = content["schema"]
        media = Media("any media type" if name == ANY_MEDIA else name, reader.type_of(schema))
        same.setdefault((inline(reader.about(schema)), tuple(reader.fields(schema))), []).append(media)
    return tuple(Shape(tuple(media), words, fields) for (words, fields), media in same.items())


def _problems(found: Mapping[int, Described]) -> Iterator[Problem]:
    for status, answer in sorted(found.items()):
        schema = answer["content"]["application/problem+json"]["schema"]
        for address in schema["allOf"][1]["properties"]["type"]["enum"]:
            code = address.rpartition("/")[2]
            entry = manual.entries().get(code)
            yield Problem(status, code, title_of(code), inline(entry.gist if entry else ""))
