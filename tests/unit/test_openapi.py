"""The description of the API is valid OpenAPI 3.1, says what the declarations say, and takes up new ones by itself."""

import json
from decimal import Decimal
from typing import Annotated, Any

import pytest
from flask import Blueprint, Flask
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import Field

from metering import api
from metering.api.bodies import Body, Query
from metering.api.openapi import describe_api
from metering.api.operation import Content, Example, described, operation
from metering.api.shapes import Answer, Number, Page
from metering.problems import to_json

BLUEPRINT = Blueprint("api_things", __name__, url_prefix="/api/v1/things")


class ThingQuery(Query):
    """`subject`: whose things; `limit`: how many."""

    subject: list[str] = Field(default_factory=list, alias="subject")
    by: dict[str, list[str]] = Field(default_factory=dict, alias="filterBy")
    limit: int | None = Field(default=None, ge=1)
    needed: str


class Thing(Answer):
    """One thing."""

    id: int
    size: Number


class ThingBody(Body):
    size: Annotated[Decimal, Field(gt=0)]


@BLUEPRINT.get("/")
@operation("Things", scope="usage:read", query=ThingQuery, answers=list[Thing], refuses=("unknown-meter",))
def things(query: ThingQuery) -> list[Thing]:
    """All things. In the order of their size.

    Sorted anew each time.
    """
    return []


@BLUEPRINT.get("/<int(min=3):thing_id>/<any(json, csv):kind>/<rest>")
@operation("Things", scope="", answers={200: Page[Thing]}, example=Example(path={"thing_id": "4", "kind": "csv"}))
def thing(thing_id: int, kind: str, rest: str) -> Page[Thing]:
    return Page(items=[])


@BLUEPRINT.post("/")
@operation(
    "Things",
    scope="things:write",
    operators_only=True,
    body=Content({"application/json": ThingBody, "text/csv": {"type": "string"}}),
    answers={201: Thing, 202: None},
    example=Example(body={"size": 1}, status=201),
)
def make() -> Thing:
    """Make a thing."""
    return Thing(id=1, size=Decimal(1))


@BLUEPRINT.delete("/")
@described("Sample", answers={204: None}, example=Example(status=204))
def metered_one() -> tuple[str, int]:
    return "", 204


def describe(*blueprints: Blueprint) -> dict[str, Any]:
    app = Flask("described")
    for blueprint in blueprints:
        app.register_blueprint(blueprint)
    document: dict[str, Any] = json.loads(to_json(describe_api(app)))
    return document


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return describe(*api.BLUEPRINTS, BLUEPRINT)


@pytest.fixture(scope="module")
def paths(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["paths"]
    return found


def by_name(found: dict[str, Any]) -> dict[str, Any]:
    return {parameter["name"]: parameter for parameter in found["parameters"]}


def test_it_is_valid(document: dict[str, Any]) -> None:
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


def test_each_operation_has_a_name_of_its_own_words_and_a_described_tag(document: dict[str, Any]) -> None:
    operations = [one for path in document["paths"].values() for one in path.values()]
    names = [one["operationId"] for one in operations]
    assert len(set(names)) == len(names)
    assert all(one["summary"] for one in operations)
    tags = {tag["name"]: tag["description"] for tag in document["tags"]}
    assert {tag for one in operations for tag in one["tags"]} == tags.keys()
    assert all(tags.values())


def test_each_schema_is_used(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    assert [name for name in document["components"]["schemas"] if f'"#/components/schemas/{name}"' not in text] == []


def test_a_list_is_repeated_and_a_mapping_is_written_with_brackets(paths: dict[str, Any]) -> None:
    parameters = by_name(paths["/api/v1/things/"]["get"])
    assert (parameters["subject"]["style"], parameters["subject"]["explode"]) == ("form", True)
    assert parameters["filterBy"]["style"] == "deepObject"
    assert parameters["subject"]["description"] == "Whose things."
    assert parameters["limit"]["schema"] == {"type": "integer", "minimum": 1}
    assert [name for name, one in parameters.items() if one["required"]] == ["needed"]


def test_parameters_of_the_path_have_the_types_of_their_converters(paths: dict[str, Any]) -> None:
    parameters = by_name(paths["/api/v1/things/{thing_id}/{kind}/{rest}"]["get"])
    assert parameters["thing_id"]["schema"] == {"type": "integer", "minimum": 3}
    assert parameters["thing_id"]["example"] == 4
    assert parameters["kind"]["schema"] == {"type": "string", "enum": ["json", "csv"]}
    assert parameters["rest"]["schema"]["type"] == "string"


def test_what_is_taken_and_answered_has_its_schema(paths: dict[str, Any], document: dict[str, Any]) -> None:
    made = paths["/api/v1/things/"]["post"]
    assert made["requestBody"]["content"].keys() == {"application/json", "text/csv"}
    assert made["requestBody"]["content"]["application/json"]["example"] == {"size": 1}
    assert made["responses"]["201"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Thing"}
    assert document["components"]["schemas"]["Thing"]["description"] == "One thing."
    assert "content" not in made["responses"]["202"]
    listed = paths["/api/v1/things/"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert listed == {"type": "array", "items": {"$ref": "#/components/schemas/Thing"}}
    assert document["components"]["schemas"]["Thing"]["properties"]["size"] == {"type": "number"}


def test_scopes_and_operators_are_named(paths: dict[str, Any]) -> None:
    made, read = paths["/api/v1/things/"]["post"], paths["/api/v1/things/{thing_id}/{kind}/{rest}"]["get"]
    assert made["security"] == [{"bearer": ["things:write"]}, {"apiKey": ["things:write"]}]
    assert (made["x-scope"], made["x-operators-only"]) == ("things:write", True)
    assert "things:write" in made["description"]
    assert "operators" in made["description"]
    assert (read["security"], "x-scope" in read) == ([], False)


def test_problems_that_follow_from_a_declaration_are_named(paths: dict[str, Any]) -> None:
    def problems(path: str, method: str) -> dict[str, str]:
        answers = paths[path][method]["responses"]
        return {status: one["$ref"].rpartition("/")[2] for status, one in answers.items() if "$ref" in one}

    assert problems("/api/v1/things/", "get") == {
        "400": "400-invalid-request",
        "401": "401-not-authenticated",
        "403": "403-not-permitted",
        "404": "404-unknown-meter",
        "503": "503-intake-unavailable",
    }
    assert problems("/api/v1/things/{thing_id}/{kind}/{rest}", "get").keys() == {"400", "404"}
    assert problems("/api/v1/things/", "post").keys() == {"400", "401", "403", "413", "415", "503"}
    assert problems("/api/v1/things/", "delete").keys() == {"400", "401", "403", "409", "422", "429", "503"}


def test_a_problem_answer_allows_its_own_codes_only_and_says_what_they_mean(document: dict[str, Any]) -> None:
    answer = document["components"]["responses"]["429-limit-exceeded"]
    schema = answer["content"]["application/problem+json"]["schema"]
    assert schema["allOf"][1]["properties"]["type"]["enum"] == ["/problems/limit-exceeded"]
    assert "would pass a hard limit" in answer["description"]
    assert {"X-Request-Id", "Retry-After", "RateLimit", "RateLimit-Policy"} <= answer["headers"].keys()
    assert "WWW-Authenticate" in document["components"]["responses"]["401-not-authenticated"]["headers"]


def test_metered_operations_show_their_limits(paths: dict[str, Any]) -> None:
    ping = paths["/api/v1/sample/ping"]["get"]
    assert "RateLimit" in ping["responses"]["200"]["headers"]
    assert "RateLimit" not in paths["/api/v1/usage"]["get"]["responses"]["200"]["headers"]
    assert "Idempotency-Key" in by_name(ping)
    assert ping["x-metered"] is True


def test_words_come_from_the_docstring(paths: dict[str, Any]) -> None:
    listed = paths["/api/v1/things/"]["get"]
    assert listed["summary"] == "All things"
    assert listed["description"].startswith("In the order of their size.\n\nSorted anew each time.\n\nNeeds an API key")
