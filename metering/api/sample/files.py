"""`PUT|GET|DELETE files/<name>`: bytes kept for a customer, which are its level of storage."""

from typing import Any

from flask import Response, request
from flask.typing import ResponseReturnValue

from metering.accounts.customers import find_customer
from metering.api.auth import current_metering
from metering.api.bodies import InvalidRequest
from metering.api.sample import storage
from metering.api.sample.blueprint import billed_customer, blueprint
from metering.errors import NotFound
from metering.extensions import db
from metering.metered import metered
from metering.models import Customer

MAX_NAME = 255


@blueprint.put("/files/<name>")
@metered("api_call")
def write(name: str) -> tuple[dict[str, Any], int]:
    content = request.get_data()
    created = storage.write(current_metering(), db.session(), _customer(), _checked(name), content)
    return {"name": name, "size": len(content)}, 201 if created else 200


@blueprint.get("/files/<name>")
@metered("api_call")
def read(name: str) -> Response:
    file = storage.find(db.session(), _customer(), _checked(name))
    if file is None:
        raise NotFound("there is no such file", name=name)
    # Never shown by a browser as a page of this host, whatever it holds.
    headers = {"Content-Disposition": "attachment"}
    return Response(file.content, content_type="application/octet-stream", headers=headers)


@blueprint.delete("/files/<name>")
@metered("api_call")
def remove(name: str) -> ResponseReturnValue:
    if not storage.remove(current_metering(), db.session(), _customer(), _checked(name)):
        raise NotFound("there is no such file", name=name)
    return "", 204


def _customer() -> Customer:
    return find_customer(db.session(), billed_customer())


def _checked(name: str) -> str:
    if len(name) > MAX_NAME or not name.isprintable():
        raise InvalidRequest(f"a file's name holds 1 to {MAX_NAME} printable characters", name=name[:MAX_NAME])
    return name
