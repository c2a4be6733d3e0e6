"""JSON bodies, read strictly: exact numbers, no unknown fields, no type taken for another."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NoReturn, TypeVar

from flask import request
from pydantic import BaseModel, ConfigDict, ValidationError

from metering.errors import MeteringError


class InvalidRequest(MeteringError):
    """The body is not what the endpoint takes; `errors` names each field and what is wrong with it."""

    code = "invalid-request"


class Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


AnyBody = TypeVar("AnyBody", bound=Body)


def read(kind: type[AnyBody]) -> AnyBody:
    """The body of the request. Raises InvalidRequest, and RequestEntityTooLarge for one that is too large."""
    try:
        return kind.model_validate(_parse(request.get_data()))
    except ValidationError as error:
        faults = [_fault(fault) for fault in error.errors(include_url=False, include_context=False)]
        shown = "; ".join(f"{fault['field']}: {fault['message']}" for fault in faults[:3])
        raise InvalidRequest(f"The body is not as it should be: {shown}", errors=faults[:20]) from None


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body, parse_float=Decimal, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"The body is no JSON: {error}") from None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _fault(fault: Mapping[str, Any]) -> dict[str, str]:
    field = ".".join(str(part) for part in fault["loc"]) or "body"
    return {"field": field, "message": fault["msg"].removeprefix("Value error, ")}
