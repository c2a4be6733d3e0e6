"""Stripe's error answers: the shape of the body, the codes and the wording.

Source: Stripe's pages "Errors", "Error codes" and "Idempotent requests"; wording as answered by the API.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What goes back to the caller: an HTTP status, a JSON object and additional headers."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


class ApiError(Exception):
    """An answer in Stripe's error shape: `{"error": {type, message, code?, param?, doc_url?}}`.

    `leaves_changes` is for what happened although it failed, such as an attempt to pay; any other error undoes all.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
        leaves_changes: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.kind = kind
        self.code = code
        self.param = param
        self.headers = headers or {}
        self.leaves_changes = leaves_changes

    def answer(self) -> Answer:
        """The error as Stripe words it; absent facts are left out, not null."""
        error: dict[str, str] = {"message": self.message, "type": self.kind}
        if self.code:
            error["code"] = self.code
            error["doc_url"] = f"https://stripe.com/docs/error-codes/{self.code.replace('_', '-')}"
        if self.param:
            error["param"] = self.param
        return Answer(self.status, {"error": error}, self.headers)


class DroppedConnectionError(ConnectionError):
    """The connection ends without an answer; `reset` says whether by a TCP reset or by an orderly close."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__("connection dropped by an armed fault")
        self.reset = reset


def missing_parameter(name: str) -> ApiError:
    return ApiError(f"Missing required param: {name}.", code="parameter_missing", param=name)


def unknown_parameters(names: list[str]) -> ApiError:
    noun = "parameter" if len(names) == 1 else "parameters"
    return ApiError(f"Received unknown {noun}: {', '.join(names)}", code="parameter_unknown", param=names[0])


def no_such(noun: str, identifier: str, *, param: str = "id") -> ApiError:
    """404 when the id stands in the path (Stripe names it `id`), 400 when a parameter refers to it."""
    return ApiError(
        f"No such {noun}: '{identifier}'",
        status=404 if param == "id" else 400,
        code="resource_missing",
        param=param,
    )


def unrecognized_url(method: str, path: str) -> ApiError:
    return ApiError(
        f"Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs "
        "or we can help at https://support.stripe.com/.",
        status=404,
    )


def server_error() -> ApiError:
    return ApiError("An unknown error occurred", status=500, kind="api_error")
