"""JSON bodies and query strings, read strictly: exact numbers, no unknown fields, no type taken for another."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from flask import request
from pydantic import BaseModel, ConfigDict, ValidationError
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import UnsupportedMediaType

from metering import exact_json
from metering.api.complaints import complaint
from metering.errors import MeteringError

MOST_FAULTS = 20
# PostgreSQL keeps no NUL in a text. A backslash before the escape makes it plain text.
NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
JSON = "application/json"


class InvalidRequest(MeteringError):
    """The request is not what the endpoint takes; `errors` names each field and what is wrong with it."""

    code = "invalid-request"


class Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Query(BaseModel):
    """Parameters of a query string. A field that is a list takes a parameter that is repeated, and one that is a
    mapping takes `name[key]=value`; any other parameter may be given once.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


AnyBody = TypeVar("AnyBody", bound=Body)
AnyQuery = TypeVar("AnyQuery", bound=Query)


def read(kind: type[AnyBody]) -> AnyBody:
    """The JSON body of the request.

    Raises:
        InvalidRequest: it is not what `kind` says.
        RequestEntityTooLarge, UnsupportedMediaType: it is too large, or says that it is something else than JSON.
    """
    if request.mimetype and request.mimetype != JSON:
        raise UnsupportedMediaType(f"The body must be {JSON}, not {request.mimetype}.")
    text = request.get_data()
    if NUL.search(text):
        raise InvalidRequest("The body holds a NUL character")
    try:
        return kind.model_validate(parse_json(text))
    except ValidationError as error:
        raise _invalid(kind, error, "The body is not as it should be", "body") from None


def read_query(kind: type[AnyQuery]) -> AnyQuery:
    """The query string of the request. Raises InvalidRequest."""
    try:
        return kind.model_validate(_gather(kind, request.args))
    except ValidationError as error:
        raise _invalid(kind, error, "The query is not as it should be", "query") from None


def parse_json(text: bytes | str) -> Any:
    """JSON with every number exact. Raises InvalidRequest."""
    try:
        return exact_json.parse(text)
    except ValueError as error:
        raise InvalidRequest(f"The body is no JSON: {error}") from None


def _gather(kind: type[Query], args: "MultiDict[str, str]") -> dict[str, Any]:
    lists, mappings = shapes(kind)
    gathered: dict[str, Any] = {}
    for name, values in args.lists():
        outer, _, rest = name.partition("[")
        if outer in mappings and rest.endswith("]"):
            gathered.setdefault(outer, {})[rest[:-1]] = values
        else:
            gathered[name] = values if name in lists or len(values) > 1 else values[0]
    return gathered


def shapes(kind: type[Query]) -> tuple[set[str], set[str]]:
    """The names of the parameters that may be repeated, and of those that are written `name[key]`."""
    named = {field.alias or name: str(field.annotation) for name, field in kind.model_fields.items()}
    lists = {name for name, annotation in named.items() if "list[" in annotation and "dict[" not in annotation}
    return lists, {name for name, annotation in named.items() if "dict[" in annotation}


def _invalid(kind: type[BaseModel], error: ValidationError, what: str, whole: str) -> InvalidRequest:
    faults = [_fault(kind, fault, whole) for fault in error.errors(include_url=False)]
    shown = "; ".join(f"{fault['field']}: {fault['message']}" for fault in faults[:3])
    return InvalidRequest(f"{what}: {shown}", errors=faults[:MOST_FAULTS])


def _fault(kind: type[BaseModel], fault: Mapping[str, Any], whole: str) -> dict[str, str]:
    place = fault["loc"]
    message = complaint(fault)
    if fault["type"] == "extra_forbidden" and len(place) == 1:
        taken = [field.alias or name for name, field in kind.model_fields.items()]
        message += f"; there are: {', '.join(taken)}" if taken else "; nothing is"
    return {"field": ".".join(str(part) for part in place) or whole, "message": message}
