"""Whatever goes wrong under /api is answered as a problem, with the request's id, and with nothing of the inside."""

import json
import logging
import re

import pytest
from flask import Flask, abort, request
from flask.testing import FlaskClient
from structlog.testing import capture_logs
from werkzeug.exceptions import NotAcceptable, ServiceUnavailable, TooManyRequests, UnprocessableEntity
from werkzeug.test import TestResponse

from metering.extensions import csrf
from tests.factories.callers import ApiConsumer, consumer
from tests.factories.world import World

SECRET = "the inside that nobody must see"
REQUEST_ID = re.compile(r"[0-9a-f]{16}")


@pytest.fixture
def acme(app: Flask, world: World) -> ApiConsumer:
    return consumer(app, world, "acme", "free", "meter", "usage:read")


@pytest.fixture
def broken(app: Flask) -> Flask:
    """With views that fail in every way."""

    def fails() -> str:
        raise RuntimeError(SECRET)

    def aborts(status: int) -> str:
        if status == 503:
            raise ServiceUnavailable(retry_after=86_400)
        if status == 429:
            raise TooManyRequests(retry_after=86_400)
        if status == 406:
            raise NotAcceptable
        if status == 422:
            raise UnprocessableEntity("this cannot be processed")
        abort(status)

    def reads() -> dict[str, int]:
        return {"size": len(request.get_data())}

    app.add_url_rule("/api/v1/fails", view_func=csrf.exempt(fails), methods=["GET", "POST"])
    app.add_url_rule("/api/v1/aborts/<int:status>", view_func=aborts)
    app.add_url_rule("/api/v1/reads", view_func=csrf.exempt(reads), methods=["POST"])
    return app


def problem(answer: TestResponse, status: int, code: str) -> dict[str, object]:
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    body: dict[str, object] = json.loads(answer.data)
    assert (body["type"], body["status"]) == (f"/problems/{code}", status)
    assert body["request_id"] == answer.headers["X-Request-Id"]
    assert body["title"]
    assert body["detail"]
    return body


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/nothing", "/api/v1/", "/api/v1/usage/", "/api//v1/usage"])
def test_an_unknown_path_is_not_found(client: FlaskClient, path: str) -> None:
    body = problem(client.get(path), 404, "not-found")

    assert body["instance"] == path
    assert body["detail"] == "There is nothing at this address."


@pytest.mark.parametrize(("method", "allowed"), [("DELETE", "GET, HEAD, OPTIONS"), ("TRACE", "GET, HEAD, OPTIONS")])
def test_a_wrong_method_is_told_the_right_ones(client: FlaskClient, method: str, allowed: str) -> None:
    answer = client.open("/api/v1/usage", method=method)

    problem(answer, 405, "method-not-allowed")
    assert answer.headers["Allow"] == allowed


def test_a_body_that_is_too_large_or_of_another_kind_is_refused(acme: ApiConsumer) -> None:
    problem(
        acme.post("/api/v1/check", data=b"x" * 10_485_761, content_type="application/json"), 413, "content-too-large"
    )
    problem(acme.put("/api/v1/sample/files/x", b"x" * 10_485_761), 413, "content-too-large")
    problem(acme.post("/api/v1/check", data=b"a=1", content_type="text/plain"), 415, "unsupported-media-type")


@pytest.mark.parametrize(
    ("status", "code"),
    [(406, "not-acceptable"), (422, "unprocessable-content"), (429, "too-many-requests"), (503, "service-unavailable")],
)
def test_what_a_view_aborts_with_is_a_problem(broken: Flask, status: int, code: str) -> None:
    answer = broken.test_client().get(f"/api/v1/aborts/{status}")

    problem(answer, status, code)
    assert "Retry-After" not in answer.headers, "clients that obey it would sleep for a day"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unexpected_exception_is_logged_and_not_shown(broken: Flask, method: str) -> None:
    with capture_logs() as logs:
        answer = broken.test_client().open("/api/v1/fails", method=method, headers={"X-Request-Id": "mine-1"})

    body = problem(answer, 500, "internal-server-error")
    assert (body["request_id"], body["detail"]) == ("mine-1", "The server made a mistake.")
    assert SECRET not in answer.text
    assert "Traceback" not in answer.text
    (line,) = [entry for entry in logs if entry["event"] == "request_failed"]
    assert (line["method"], line["path"], line["log_level"]) == (method, "/api/v1/fails", "error")
    assert SECRET in str(line["exc_info"][1])


def test_the_log_of_an_exception_names_the_request_and_hides_keys(
    broken: Flask, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = broken.test_client().get("/api/v1/fails")

    shown = capsys.readouterr().err
    assert answer.headers["X-Request-Id"] in shown
    assert SECRET in shown
    assert caplog.records == [], "once is enough"


MALFORMED = ["/api/v1/limits/%zz", "/api/v1/limits/a%0", "/api/v1/usage?customer=%zz", "/api/v1/usage?customer=%"]
NULS = ["/api/v1/limits/%00", "/api/v1/usage?customer=a%00b", "/api/%00"]
NO_TEXT = ["/api/v1/limits/%ff", "/api/v1/usage?customer=%ff%fe", "/api/v1/usage?%c3=1", "/api/v1/limits/%ed%a0%80"]


@pytest.mark.parametrize("path", MALFORMED + NULS + NO_TEXT)
def test_an_address_that_is_none_is_refused(acme: ApiConsumer, path: str) -> None:
    raw, _, query = path.partition("?")
    answer = acme.get(raw, query_string=query, environ_overrides={"RAW_URI": path, "REQUEST_URI": path})

    body = problem(answer, 400, "invalid-request")
    assert any(words in str(body["detail"]) for words in ("%", "NUL", "UTF-8"))


def test_a_page_of_an_address_that_is_none_is_a_page(client: FlaskClient) -> None:
    answer = client.get("/c/%00/")

    assert (answer.status_code, answer.mimetype) == (400, "text/html")


def test_good_addresses_with_signs_of_their_own_are_taken(acme: ApiConsumer) -> None:
    for name in ("a%25b", "%C3%A4", "a+b", "%F0%9F%90%8D", "100%2525"):
        assert acme.put(f"/api/v1/sample/files/{name}", b"x").status_code == 201


@pytest.mark.parametrize("text", [r'{"quantities": {"a\u0000": 1}}', r'{"customer": "\u0000", "quantities": {"a": 1}}'])
def test_a_body_with_a_nul_is_refused(acme: ApiConsumer, text: str) -> None:
    answer = acme.post("/api/v1/check", data=text, content_type="application/json")

    assert "NUL" in str(problem(answer, 400, "invalid-request")["detail"])


def test_an_escaped_backslash_makes_no_nul(acme: ApiConsumer) -> None:
    answer = acme.post(
        "/api/v1/sample/messages", data=rb'{"to": "a", "text": "\\u0000"}', content_type="application/json"
    )

    assert answer.status_code == 201


def test_a_body_that_is_no_utf8_is_no_json(acme: ApiConsumer) -> None:
    for data in (b"\xff", '{"quantities": {"api_call": 1}}'.encode("utf-16")):
        problem(acme.post("/api/v1/check", data=data, content_type="application/json"), 400, "invalid-request")


def test_head_answers_as_get_without_a_body(acme: ApiConsumer, world: World) -> None:
    for path in ("/api/v1/usage", "/api/openapi.json", "/api/nothing"):
        answer, whole = acme.call("HEAD", path), acme.get(path)
        assert (answer.status_code, answer.content_type) == (whole.status_code, whole.content_type)
        assert answer.data == b""
        assert answer.headers["X-Request-Id"]


def test_options_names_the_methods_and_asks_for_no_key(client: FlaskClient) -> None:
    answer = client.options("/api/v1/sample/files/x")

    assert (answer.status_code, answer.data) == (200, b"")
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "ä", "<script>", "a\tb"])
def test_a_request_id_that_is_none_is_replaced(client: FlaskClient, given: str) -> None:
    answer = client.get("/api/nothing", headers={"X-Request-Id": given})

    assert REQUEST_ID.fullmatch(answer.headers["X-Request-Id"])


def test_what_an_extension_refuses_has_its_request_id(client: FlaskClient) -> None:
    answer = client.post("/logout")

    assert answer.status_code == 400
    assert REQUEST_ID.fullmatch(answer.headers["X-Request-Id"])


def test_the_api_neither_sets_nor_varies_with_cookies(client: FlaskClient) -> None:
    client.get("/login")
    answer = client.get("/api/openapi.json")

    assert "Set-Cookie" not in answer.headers
    assert "Cookie" not in answer.headers.get("Vary", "")
