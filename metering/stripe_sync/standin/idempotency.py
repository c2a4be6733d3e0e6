"""Idempotency keys: the first answer to a key is the answer to all its repetitions, for 24 hours.

Source: Stripe's page "Idempotent requests". An answer is kept, 400s and 500s included, once an endpoint began to run;
what was refused before that (parameters, rate limits) is not kept. Keys are at most 255 characters.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from metering.stripe_sync.standin.errors import Answer, ApiError
from metering.stripe_sync.standin.params import Pairs
from metering.stripe_sync.standin.store import Change, Store

ANSWERS = "answer"
KEEP_SECONDS = 24 * 3600
MAX_KEY_LENGTH = 255


@dataclass(frozen=True)
class Attempt:
    """One request under a key; the fingerprint tells it from another request under the same key."""

    key: str
    path: str
    fingerprint: str
    request_id: str

    @classmethod
    def of(cls, key: str, path: str, pairs: Pairs, request_id: str) -> Attempt:
        if len(key) > MAX_KEY_LENGTH:
            raise ApiError(f"Idempotency keys can have up to {MAX_KEY_LENGTH} characters.", kind="idempotency_error")
        digest = hashlib.sha256(repr((path, sorted(pairs))).encode()).hexdigest()
        return cls(key, path, digest, request_id)


class IdempotencyKeys:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._running: set[str] = set()
        self._guard = threading.Lock()

    @contextmanager
    def running(self, attempt: Attempt | None) -> Iterator[None]:
        """Refuses with 409 a key whose first request has not been answered yet."""
        if attempt is None:
            yield
            return
        with self._guard:
            if attempt.key in self._running:
                raise _in_use(attempt.key)
            self._running.add(attempt.key)
        try:
            yield
        finally:
            with self._guard:
                self._running.discard(attempt.key)

    def recall(self, attempt: Attempt, now: float) -> Answer | None:
        """The kept answer to this key, if there is one; another request under the key is refused."""
        self._forget_expired(now)
        kept = self._store.of(ANSWERS).get(attempt.key)
        if kept is None or kept["at"] + KEEP_SECONDS <= now:
            return None
        if kept["fingerprint"] != attempt.fingerprint:
            raise _used_differently(attempt, kept["path"])
        headers = {**kept["headers"], "Idempotent-Replayed": "true", "Original-Request": kept["request_id"]}
        return Answer(kept["status"], kept["body"], headers)

    def remember(self, attempt: Attempt, answer: Answer, now: float) -> Change:
        kept = {k: v for k, v in asdict(attempt).items() if k != "key"}
        return Change(ANSWERS, attempt.key, {**kept, **asdict(answer), "at": now})

    def _forget_expired(self, now: float) -> None:
        """Kept in the order of arrival, so the expired ones stand first: each call takes out only those."""
        kept = self._store.of(ANSWERS)
        while kept and kept[oldest := next(iter(kept))]["at"] + KEEP_SECONDS <= now:
            del kept[oldest]


def _in_use(key: str) -> ApiError:
    return ApiError(
        "There is currently another in-progress request using this Idempotent Key (that probably means you submitted "
        f"twice, and the other request is still going through): {key}. Please try again later.",
        status=409,
        code="idempotency_key_in_use",
    )


def _used_differently(attempt: Attempt, first_path: str) -> ApiError:
    if attempt.path != first_path:
        message = (
            "Keys for idempotent requests can only be used for the same endpoint they were first used for "
            f"('{attempt.path}' vs '{first_path}'). Try using a key other than '{attempt.key}' "
            "if you meant to execute a different request."
        )
    else:
        message = (
            "Keys for idempotent requests can only be used with the same parameters they were first used with. "
            f"Try using a key other than '{attempt.key}' if you meant to execute a different request."
        )
    return ApiError(message, kind="idempotency_error")
