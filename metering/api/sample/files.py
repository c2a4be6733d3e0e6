"""`PUT|GET|DELETE files/<name>`: bytes kept for a customer, which are its level of storage."""

from typing import Any

from flask import Response, request
from flask.typing import ResponseReturnValue

from metering.accounts.customers import find_customer
from metering.api.auth import current_metering
from metering.api.bodies import InvalidRequest
from metering.api.operation import Answered, Content, Example, described
from metering.api.sample import storage
from metering.api.sample.blueprint import billed_customer, blueprint
from metering.api.shapes import Answer
from metering.errors import NotFound
from metering.extensions import db
from metering.metered import metered
from metering.models import Customer

MAX_NAME = 255
BYTES = {"type": "string", "format": "binary"}
KEPT = {"name": Answered("sample_write", "name")}


class Written(Answer):
    name: str
    size: int


@blueprint.put("/files/<name>")
@described(
    "Sample",
    body=Content({"*/*": BYTES}),
    answers={201: Written, 200: Written},
    refuses=("invalid-request",),
    example=Example(path={"name": "notes.txt"}, body="hello world", status=201),
)
@metered("api_call")
def write(name: str) -> tuple[dict[str, Any], int]:
    """Keep a file, whatever it holds. 201 for a new one. Counts the difference in size as `storage_bytes`."""
    content = request.get_data()
    created = storage.write(current_metering(), db.session(), _customer(), _checked(name), content)
    return {"name": name, "size": len(content)}, 201 if created else 200


@blueprint.get("/files/<name>")
@described(
    "Sample",
    answers={200: Content({"application/octet-stream": BYTES})},
    refuses=("not-found", "invalid-request"),
    example=Example(path=KEPT),
)
@metered("api_call")
def read(name: str) -> Response:
    """The bytes of a file."""
    file = storage.find(db.session(), _customer(), _checked(name))
    if file is None:
        raise NotFound("there is no such file", name=name)
    # Never shown by a browser as a page of this host, whatever it holds.
    headers = {"Content-Disposition": "attachment"}
    return Response(file.content, content_type="application/octet-stream", headers=headers)


@blueprint.delete("/files/<name>")
@described(
    "Sample",
    answers={204: None},
    refuses=("not-found", "invalid-request"),
    example=Example(path=KEPT, status=204),
)
@metered("api_call")
def remove(name: str) -> ResponseReturnValue:
    """Remove a file. Its size is given back to `storage_bytes`."""
    if not storage.remove(current_metering(), db.session(), _customer(), _checked(name)):
        raise NotFound("there is no such file", name=name)
    return "", 204


def _customer() -> Customer:
    return find_customer(db.session(), billed_customer())


def _checked(name: str) -> str:
    if len(name) > MAX_NAME or not name.isprintable():
        raise InvalidRequest(f"a file's name holds 1 to {MAX_NAME} printable characters", name=name[:MAX_NAME])
    return name
