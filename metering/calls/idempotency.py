"""Idempotency-Key, after draft-ietf-httpapi-idempotency-key-header: a repeated request does not run again.

The key's scope is customer, method, route and key; the fingerprint tells another request under the same key apart. The
answer is stored in the very step that settles the call, so that what is counted and what is replayed cannot part.
"""

import hashlib
from collections.abc import Iterable

import orjson

from metering.errors import InvalidUsage
from metering.intake.values import IdempotencyKey

MAX_KEY = 255
# Of one connection or one moment, or set anew for each answer.
NOT_STORED = frozenset(
    {
        *("connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "date", "server"),
        *("set-cookie", "content-length", "ratelimit", "ratelimit-policy", "x-request-id"),
        *("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"),
    }
)


def idempotency_key(
    key: str, *, method: str, route: str, request: Iterable[bytes], window_seconds: float
) -> IdempotencyKey:
    """What the intake must know of a request with `key`. Raises InvalidUsage for a key that is none."""
    if not key or len(key) > MAX_KEY or not key.isprintable():
        raise InvalidUsage(f"Idempotency-Key must hold 1 to {MAX_KEY} printable characters", field="Idempotency-Key")
    return IdempotencyKey(
        digest=_digest((method.encode(), route.encode(), key.encode())),
        fingerprint=_digest(request),
        window_ms=int(window_seconds * 1000),
    )


def pack_answer(status: int, headers: Iterable[tuple[str, str]], body: bytes | None) -> bytes:
    """An answer as it is stored: one line of JSON, then the body.

    Without a body (too large, or broken off) it is only remembered that there was one.
    """
    kept = [(name, value) for name, value in headers if name.lower() not in NOT_STORED]
    return orjson.dumps([status, kept, body is not None]) + b"\n" + (body or b"")


def unpack_answer(stored: bytes) -> tuple[int, list[tuple[str, str]], bytes | None]:
    """Status, headers and body of a stored answer; the body is None when it was not kept."""
    head, _, body = stored.partition(b"\n")
    status, headers, has_body = orjson.loads(head)
    return status, [(name, value) for name, value in headers], body if has_body else None


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()
