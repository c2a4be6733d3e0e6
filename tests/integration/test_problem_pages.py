"""The address that a problem's `type` names is a page, and it says what docs/errors.md says."""

import re
from html import unescape

import pytest
from flask.testing import FlaskClient

from metering import manual

TAG = re.compile(r"<[^>]+>")


@pytest.mark.parametrize("code", manual.entries())
def test_every_problem_has_its_page(client: FlaskClient, code: str) -> None:
    answer = client.get(f"/problems/{code}")

    entry = manual.entries()[code]
    assert answer.status_code == 200
    assert code in answer.text
    shown = " ".join(TAG.sub("", answer.text).split())
    last = entry.text.split("\n\n")[-1].split(".")[0]
    assert " ".join(re.sub(r"[`*]|\[|\]\([^)]*\)", "", last).split()) in unescape(shown)


def test_the_type_of_an_answer_can_be_followed(client: FlaskClient) -> None:
    problem = client.get("/api/v1/usage").json

    assert client.get(problem["type"]).status_code == 200


def test_an_unknown_code_has_no_page(client: FlaskClient) -> None:
    for code in ("nothing", "index", "..", "%3Cscript%3E"):
        assert client.get(f"/problems/{code}").status_code == 404


def test_the_index_leads_to_all_of_them(client: FlaskClient) -> None:
    page = client.get("/problems/").text

    assert [code for code in manual.entries() if f'href="/problems/{code}"' not in page] == []


def test_links_lead_to_pages_or_are_words(client: FlaskClient) -> None:
    for path in ("/problems/", *(f"/problems/{code}" for code in manual.entries())):
        page = client.get(path).text
        assert '.md"' not in page
        assert ".md#" not in page
