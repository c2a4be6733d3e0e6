"""What the page of the API shows is what the description says; its curl lines are requests that work."""

import json
from typing import Any

import pytest
from flask import Flask

from metering import api
from metering.api.openapi import describe_api
from metering.api.reference.curl import Request, curl_line
from metering.api.reference.fields import Reader, bounds_of
from metering.api.reference.views import Media, OperationView, reference_of
from metering.markdown import inline, to_html
from metering.problems import to_json


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    app = Flask("described")
    for blueprint in api.BLUEPRINTS:
        app.register_blueprint(blueprint)
    made: dict[str, Any] = json.loads(to_json(describe_api(app)))
    return made


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> dict[str, OperationView]:
    return {one.id: one for group in reference_of(document).groups for one in group.operations}


def test_it_shows_every_operation_once(document: dict[str, Any], operations: dict[str, OperationView]) -> None:
    assert operations.keys() == {one["operationId"] for path in document["paths"].values() for one in path.values()}


def test_fields_of_objects_inside_stand_below_them(operations: dict[str, OperationView]) -> None:
    (answer,) = operations["usage_usage"].answers
    fields = [(field.name, field.depth, field.type) for field in answer.shapes[0].fields]
    assert fields[:4] == [
        ("customer", 0, "string"),
        ("plan", 0, "string"),
        ("period", 0, "object"),
        ("start", 1, "time"),
    ]
    assert ("meters", 0, "array of objects") in fields
    assert ("limit", 1, "number or null") in fields
    words = {field.name: field.words for field in answer.shapes[0].fields}
    assert words["period"].startswith("A billing period")


def test_what_is_said_of_a_field_stands_with_it(operations: dict[str, OperationView]) -> None:
    (answer,) = operations["usage_limits"].answers
    words = {field.name: field.words for field in answer.shapes[0].fields}
    assert words["mode"].startswith("A `hard` limit refuses")
    assert words["held"] == "What running calls have reserved."
    (body,) = operations["keys_rotate"].bodies
    assert body.words == ""
    assert body.fields[0].words == "How long the old key still works, up to a week."


def test_fields_of_the_objects_in_a_mapping_stand_below_it(operations: dict[str, OperationView]) -> None:
    (answer,) = operations["entitlements_access"].answers
    fields = [(field.name, field.depth, field.type) for field in answer.shapes[0].fields]
    assert fields[:2] == [("entitlements", 0, "object of objects, by name"), ("hasAccess", 1, "boolean")]


def test_media_types_with_the_same_fields_say_them_once(operations: dict[str, OperationView]) -> None:
    (shape,) = operations["events_send"].bodies
    assert shape.media == (
        Media("application/cloudevents+json", "object"),
        Media("application/cloudevents-batch+json", "array of objects"),
        Media("application/json", "object or array of objects"),
    )
    assert "valueProperty" in {field.name: field.words for field in shape.fields}["data"]


def test_no_class_of_ours_is_named(document: dict[str, Any], operations: dict[str, OperationView]) -> None:
    ours = {name for name in document["components"]["schemas"] if name not in ("Problem", "Limits")}
    for operation in operations.values():
        shapes = [*operation.bodies, *(shape for answer in operation.answers for shape in answer.shapes)]
        types = {field.type for shape in shapes for field in shape.fields} | {
            one.type for s in shapes for one in s.media
        }
        assert not {name for name in ours for said in types if name in said}


def test_problems_come_with_what_they_mean(operations: dict[str, OperationView]) -> None:
    problems = {problem.code: problem for problem in operations["sample_ping"].problems}
    assert problems["limit-exceeded"].status == 429
    assert "hard limit" in problems["limit-exceeded"].gist


def test_curl_lines_send_the_example(operations: dict[str, OperationView]) -> None:
    assert operations["usage_usage"].curl == 'curl -H "Authorization: Bearer $KEY" $URL/api/v1/usage'
    assert operations["usage_limit"].curl.endswith('"$URL/api/v1/limits/tokens?quantity=100"')
    check = operations["usage_check"].curl
    assert check.startswith(
        'curl -H "Authorization: Bearer $KEY" -H \'Content-Type: application/json\' -d \'{"quantities"'
    )
    written = operations["sample_write"].curl
    assert written.startswith("curl -X PUT")
    assert written.endswith("--data-binary 'hello world' $URL/api/v1/sample/files/notes.txt")
    assert operations["description_openapi"].curl == "curl $URL/api/openapi.json"


def test_lines_make_what_they_need(operations: dict[str, OperationView]) -> None:
    made, settled = operations["reservations_settle"].curl.split("\n")
    assert made.startswith('RESERVATION=$(curl -s -H "Authorization: Bearer $OPERATORS_KEY"')
    assert settled.endswith("$URL/api/v1/reservations/$RESERVATION/settle")
    called, *_ = operations["stored_events_void"].curl.split("\n")
    assert called == operations["sample_ping"].curl


def test_a_customers_own_key_does_what_it_can(operations: dict[str, OperationView]) -> None:
    assert "Bearer $KEY" in operations["entitlements_value"].curl
    assert "Bearer $OPERATORS_KEY" in operations["customers_read"].curl


def test_a_shell_reads_a_curl_line_as_it_is_meant() -> None:
    found = {
        "parameters": [{"in": "path", "name": "key", "example": "a/b $(rm) 'x'"}],
        "requestBody": {"content": {"application/json": {"example": {"text": "it's $HOME"}}}},
        "security": [],
    }
    line = curl_line(Request("/things/{key}", "POST", found))
    assert "a%2Fb%20%24%28rm%29%20%27x%27" in line
    assert """'{"text": "it'"'"'s $HOME"}'""" in line


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "array", "items": {"type": "integer"}}, "array of integers"),
        ({"type": "array", "items": {"type": ["number", "string"]}}, "array of number or string"),
        ({"type": "array", "items": {"type": "array", "items": {"type": "string"}}}, "array of arrays of strings"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "string or null"),
        ({"type": ["number", "string"]}, "number or string"),
        ({"enum": ["hard", "soft"]}, "“hard” or “soft”"),
        ({"const": True}, "true"),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "object of numbers, by name"),
        ({"type": "string", "format": "date-time"}, "time"),
        ({}, "anything"),
        ({"$ref": "#/components/schemas/Thing"}, "object"),
        ({"$ref": "#/components/schemas/Word"}, "“a” or “b”"),
    ],
)
def test_types_are_said_in_words(schema: dict[str, Any], words: str) -> None:
    assert (
        Reader({"Thing": {"title": "Thing", "type": "object"}, "Word": {"enum": ["a", "b"]}}).type_of(schema) == words
    )


def test_an_object_that_holds_itself_is_shown_once() -> None:
    child = {"anyOf": [{"$ref": "#/components/schemas/Node"}, {"type": "null"}]}
    node = {"title": "Node", "properties": {"name": {"type": "string"}, "child": child}}
    shown = list(Reader({"Node": node}).fields({"$ref": "#/components/schemas/Node"}))
    assert [(field.name, field.depth) for field in shown] == [("name", 0), ("child", 0), ("name", 1), ("child", 1)]


def test_bounds_are_said_in_words() -> None:
    assert bounds_of({"minimum": 1, "maximum": 100_000}) == "At least 1, at most 100,000"
    assert bounds_of({"minLength": 1, "maxLength": 64}) == "At most 64 characters"


def test_markdown_lets_no_html_through() -> None:
    hostile = "<script>alert(1)</script> [x](javascript:alert(1)) `<b>`"
    for html in (inline(hostile), to_html(hostile)):
        assert "<script" not in html
        assert "href" not in html
        assert "<b>" not in html


def test_links_between_documents_lead_to_their_pages() -> None:
    text = "see [api.md](api.md), [books](operations.md#books) and [this](https://example.org/)"
    html = to_html(text, {"api.md": "/api/docs"})
    assert 'href="/api/docs"' in html
    assert "books" in html
    assert "operations.md" not in html
    assert 'href="https://example.org/"' in html
