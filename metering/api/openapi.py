"""The description of the HTTP API, OpenAPI 3.1, made from what the code declares.

Whatever stands in the URL map and carries an `Operation` is in it: nothing is written twice, so nothing can part.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from flask import Flask
from werkzeug.routing import Rule

from metering import manual
from metering.api.implied import problems_of
from metering.api.operation import Content, Operation, View, operation_of
from metering.api.parameters import (
    Template,
    header_parameters,
    path_parameters,
    query_parameters,
    template_of,
)
from metering.api.schemas import ANSWERED, REFERENCE, TAKEN, Described, Way, schemas_of
from metering.api.words import ANSWER_HEADERS, INFO, LIMIT_HEADERS, PROBLEM, REPLAY_HEADER, SECURITY_SCHEMES, TAGS
from metering.problems import title_of

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
NOT_DESCRIBED = frozenset({"HEAD", "OPTIONS"})
WITH_RETRY_AFTER = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class Route:
    """An operation where it stands: one address, one method."""

    template: Template
    method: str
    endpoint: str
    view: View
    declared: Operation

    @property
    def problems(self) -> Mapping[int, tuple[str, ...]]:
        return problems_of(self.declared, has_path_parameters=bool(self.template.schemas))


def routes(app: Flask) -> Iterator[Route]:
    """All operations of the app, in the order in which they were registered."""
    for rule in app.url_map.iter_rules():
        view = app.view_functions[rule.endpoint]
        if declared := operation_of(view):
            for method in _methods(rule):
                yield Route(template_of(app, rule), method, rule.endpoint, view, declared)


def _methods(rule: Rule) -> Sequence[str]:
    return sorted((rule.methods or set()) - NOT_DESCRIBED)


def describe_api(app: Flask) -> Described:
    """The whole document, as plain values for JSON."""
    return _Description(list(routes(app))).document()


class _Description:
    def __init__(self, found: Sequence[Route]) -> None:
        self.routes = found
        self.schemas = schemas_of(route.declared for route in found)
        self.responses: dict[str, Described] = {}

    def document(self) -> Described:
        paths: dict[str, dict[str, Described]] = {}
        names = _names(self.routes)
        for route, name in zip(self.routes, names, strict=True):
            paths.setdefault(route.template.path, {})[route.method.lower()] = self.operation(route, name)
        return {
            "openapi": "3.1.0",
            "info": INFO,
            "servers": [{"url": "/", "description": "The host that serves this description."}],
            "security": [],
            "tags": self.tags(),
            "paths": paths,
            "components": {
                "schemas": {"Problem": PROBLEM, **self.schemas.used_in(paths)},
                "responses": dict(sorted(self.responses.items())),
                "headers": {**ANSWER_HEADERS, **LIMIT_HEADERS, **REPLAY_HEADER},
                "securitySchemes": SECURITY_SCHEMES,
            },
        }

    def tags(self) -> list[Described]:
        """Those in use: in the order of their words, then the others, described by their module."""
        used = {route.declared.tag: route.view for route in reversed(self.routes)}
        others = [name for name in dict.fromkeys(route.declared.tag for route in self.routes) if name not in TAGS]
        return [
            {"name": name, "description": TAGS.get(name) or _module_words(used[name])}
            for name in (*TAGS, *others)
            if name in used
        ]

    def operation(self, route: Route, name: str) -> Described:
        declared = route.declared
        summary, more = _words(route.view)
        described: Described = {
            "operationId": name,
            "tags": [declared.tag],
            "summary": summary,
            "description": "\n\n".join(part for part in (more, _who(declared)) if part),
            "parameters": list(self.parameters(route)),
        }
        if declared.body is not None:
            described["requestBody"] = self.body(declared)
        described["responses"] = self.answers(route)
        described["security"] = [{scheme: [declared.scope]} for scheme in SECURITY_SCHEMES] if declared.scope else []
        if declared.scope:
            described["x-scope"] = declared.scope
        if declared.operators_only:
            described["x-operators-only"] = True
        if declared.metered:
            described["x-metered"] = True
        if declared.example.after:
            described["x-after"] = declared.example.after
        return described

    def parameters(self, route: Route) -> Iterator[Described]:
        declared = route.declared
        yield from path_parameters(route.template, declared.example)
        if declared.query is not None:
            schema = self.schemas.resolved(declared.query, TAKEN)
            yield from query_parameters(declared.query, schema, declared.example)
        yield from header_parameters(declared.headers, declared.example)

    def body(self, declared: Operation) -> Described:
        content = self.content(declared.body, TAKEN)
        if declared.example.body is not None:
            next(iter(content.values()))["example"] = declared.example.body
        return {"required": isinstance(declared.body, type), "content": content}

    def answers(self, route: Route) -> Described:
        answers: Described = {}
        for status, answer in sorted(route.declared.answers.items()):
            headers = {**ANSWER_HEADERS, **(LIMIT_HEADERS | REPLAY_HEADER if route.declared.metered else {})}
            described = {"description": HTTPStatus(status).phrase, "headers": _header_references(headers, status)}
            if answer is not None:
                described["content"] = self.content(answer, ANSWERED)
            answers[str(status)] = described
        for status, codes in route.problems.items():
            answers[str(status)] = {"$ref": f"#/components/responses/{self.problem(status, codes)}"}
        return answers

    def content(self, what: Any, way: Way) -> Described:
        kinds = what.schemas if isinstance(what, Content) else {JSON: what}
        return {media: {"schema": self.schemas.of(kind, way)} for media, kind in kinds.items()}

    def problem(self, status: int, codes: Sequence[str]) -> str:
        """The name of the answer for a status that has one of these problems."""
        name = f"{status}-{'-or-'.join(codes)}"
        if name not in self.responses:
            self.responses[name] = _problem(status, codes)
        return name


def _names(found: Sequence[Route]) -> list[str]:
    """A name for each operation that no other has: its endpoint, with what tells it apart where that is not enough."""
    names: list[str] = []
    endpoints = [route.endpoint for route in found]
    for route in found:
        name = route.endpoint.removeprefix("api_").replace(".", "_")
        if endpoints.count(route.endpoint) > 1:
            name += f"_{route.method.lower()}"
        number = sum(known == name or known.startswith(f"{name}_v") for known in names)
        names.append(f"{name}_v{number + 1}" if number else name)
    return names


def _words(view: View) -> tuple[str, str]:
    """A summary and what else the view's docstring says."""
    first, _, more = (inspect.getdoc(view) or view.__name__).partition("\n\n")
    summary, _, rest = " ".join(first.split()).partition(". ")
    return summary.rstrip("."), "\n\n".join(part for part in (rest, more) if part)


def _who(declared: Operation) -> str:
    if not declared.scope:
        return "Anybody may call it; no API key is needed."
    who = f"Needs an API key with the scope `{declared.scope}`."
    if declared.operators_only:
        who += " For operators alone: their keys belong to no customer."
    if declared.metered:
        who += " Each call counts on the customer's meters and is held to its limits."
    return who


def _module_words(view: View) -> str:
    module = inspect.getmodule(inspect.unwrap(view))
    return (inspect.getdoc(module) or "").partition("\n\n")[0] if module else ""


def _header_references(headers: Mapping[str, Any], status: int) -> Described:
    named = {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
    if status not in WITH_RETRY_AFTER:
        named.pop("Retry-After", None)
    if status != HTTPStatus.UNAUTHORIZED:
        named.pop("WWW-Authenticate", None)
    return named


def _problem(status: int, codes: Sequence[str]) -> Described:
    """An answer with one of these problems, and with no other."""
    limits = LIMIT_HEADERS if status == HTTPStatus.TOO_MANY_REQUESTS else {}
    one_of = {"type": {"enum": [f"/problems/{code}" for code in codes]}, "status": {"const": status}}
    schema = {"allOf": [{"$ref": REFERENCE.format(model="Problem")}, {"properties": one_of}]}
    return {
        "description": "\n".join(f"* [`{code}`](/problems/{code}): {_gist(code)}" for code in codes),
        "headers": _header_references({**ANSWER_HEADERS, **limits}, status),
        "content": {PROBLEM_JSON: {"schema": schema}},
    }


def _gist(code: str) -> str:
    entry = manual.entries().get(code)
    return entry.gist if entry else title_of(code)
