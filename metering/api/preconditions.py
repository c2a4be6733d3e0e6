"""ETags and If-Match (RFC 9110, 8.8.3 and 13.1.1): nobody overwrites what they have not seen.

An ETag is made from what an answer says, so it is strong, and every process gives the same one. It is compared under
the lock of the row that is about to be changed: of two writers that saw the same, one wins.
"""

from hashlib import blake2b
from typing import Any

from flask import request

from metering.api.shapes import Answer, dump
from metering.errors import MeteringError

IF_MATCH = "If-Match"

Tagged = tuple[Answer, int, dict[str, Any]]
"""An answer with its ETag, as an operation returns it."""


class PreconditionFailed(MeteringError):
    """It was changed since the caller read it. Nothing was done."""

    code = "precondition-failed"


def tagged(answer: Answer, status: int = 200, **headers: str) -> Tagged:
    return answer, status, {"ETag": f'"{_tag(answer)}"', **headers}


def require_match(present: Answer) -> None:
    """Let a change go ahead if the caller saw what is `present`, or does not ask. Raises PreconditionFailed."""
    if IF_MATCH in request.headers and not request.if_match.contains(_tag(present)):
        raise PreconditionFailed("it was changed meanwhile: read it again, then decide", etag=f'"{_tag(present)}"')


def _tag(answer: Answer) -> str:
    return blake2b(dump(answer), digest_size=16).hexdigest()
