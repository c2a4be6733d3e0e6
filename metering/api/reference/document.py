"""`GET /api/openapi.json`: the description of the API, made once a process."""

from dataclasses import dataclass
from hashlib import blake2b

from flask import Blueprint, Flask, Response, current_app, request

from metering.api.openapi import describe_api
from metering.api.operation import Content, Example, operation
from metering.api.schemas import Described
from metering.problems import to_json

blueprint = Blueprint("api_description", __name__, url_prefix="/api")

KEPT = "metering_api_description"
FRESH_FOR = "public, max-age=300"


@dataclass(frozen=True, slots=True)
class Document:
    described: Described
    text: bytes
    tag: str

    @classmethod
    def of(cls, app: Flask) -> "Document":
        described = describe_api(app)
        text = to_json(described)
        return cls(described, text, blake2b(text, digest_size=12).hexdigest())


def document() -> Document:
    """The description of the app that runs. Its routes don't change once it serves, so it is made once."""
    kept: Document | None = current_app.extensions.get(KEPT)
    if kept is None:
        kept = current_app.extensions[KEPT] = Document.of(current_app)
    return kept


def cacheable(response: Response, tag: str) -> Response:
    """Anybody may keep it for a while, and ask then whether it has changed."""
    response.headers["Cache-Control"] = FRESH_FOR
    response.set_etag(tag)
    response.make_conditional(request)
    return response


@blueprint.get("/openapi.json")
@operation(
    "Description",
    scope="",
    answers={200: Content({"application/json": {"type": "object", "required": ["openapi", "info", "paths"]}})},
    example=Example(),
)
def openapi() -> Response:
    """This document: the description of the API, OpenAPI 3.1."""
    found = document()
    return cacheable(Response(found.text, content_type="application/json"), found.tag)
