"""The description is served to anybody, and every route of the API is in it."""

from flask import Flask
from flask.testing import FlaskClient
from openapi_spec_validator import OpenAPIV31SpecValidator

from metering.api.operation import operation_of


def test_every_route_of_the_api_is_declared(app: Flask) -> None:
    undeclared = [
        str(rule)
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api") and operation_of(app.view_functions[rule.endpoint]) is None
    ]

    assert undeclared == []


def test_anybody_may_read_it(client: FlaskClient) -> None:
    answer = client.get("/api/openapi.json")

    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert list(OpenAPIV31SpecValidator(answer.json).iter_errors()) == []
    assert {"/api/v1/usage", "/api/v1/sample/ping", "/api/openapi.json"} <= answer.json["paths"].keys()


def test_it_can_be_kept_and_is_sent_again_only_when_it_changed(client: FlaskClient) -> None:
    first = client.get("/api/openapi.json")
    again = client.get("/api/openapi.json", headers={"If-None-Match": first.headers["ETag"]})

    assert first.headers["Cache-Control"] == "public, max-age=300"
    assert (again.status_code, again.data) == (304, b"")


def test_the_page_can_be_kept_too_and_holds_nothing_of_a_session(client: FlaskClient) -> None:
    first = client.get("/api/docs")
    again = client.get("/api/docs", headers={"If-None-Match": first.headers["ETag"]})

    assert (first.status_code, first.mimetype) == (200, "text/html")
    assert first.headers["Cache-Control"] == "public, max-age=300"
    assert again.status_code == 304
    assert "csrf" not in first.text
