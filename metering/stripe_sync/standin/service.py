"""Runs an endpoint once: under its idempotency key, with its changes and its answer in one commit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from metering.stripe_sync.standin.clock import SETTINGS, Clock
from metering.stripe_sync.standin.deliveries import PendingDeliveries
from metering.stripe_sync.standin.endpoint import Call, Endpoint
from metering.stripe_sync.standin.errors import Answer, ApiError
from metering.stripe_sync.standin.faults import Fault, Faults
from metering.stripe_sync.standin.idempotency import Attempt, IdempotencyKeys
from metering.stripe_sync.standin.store import Change, Store
from metering.stripe_sync.standin.usage import Usage


@dataclass(frozen=True)
class Request:
    """A request that passed its endpoint's rules and is about to run."""

    path: str
    ids: dict[str, str]
    params: dict[str, Any]
    attempt: Attempt | None
    base_url: str = ""


NO_REQUEST = Request("", {}, {}, None)
Answered = TypeVar("Answered")


class Standin:
    """Everything one stand-in holds. Close it to free its store's folder."""

    def __init__(self, store_folder: Path, clock: Callable[[], float]) -> None:
        self.usage = Usage()
        self.pending = PendingDeliveries()
        self.store = Store(store_folder, watchers=[self.usage.watch, self.pending.watch])
        self.clock = Clock(self.store, clock)
        self.keys = IdempotencyKeys(self.store)
        self.faults = Faults()

    @property
    def summary_delay_seconds(self) -> float:
        return float(self.store.of(SETTINGS).get("summaries", {}).get("delay_seconds", 0.0))

    def change_setting(self, change: Change) -> None:
        with self.store.lock:
            position = self.store.commit([change])
        self.store.sync(position)

    def run(self, endpoint: Endpoint, request: Request, fault: Fault) -> Answer:
        """The kept answer to a repeated key; else runs the endpoint. What it answers is on disk."""
        with self.store.lock:
            now = self.clock.now()
            if request.attempt and (kept := self.keys.recall(request.attempt, now)):
                return kept
            call = self._call(request, now)
            answer = _run(endpoint, call, fault)
            if request.attempt:
                call.changes.append(self.keys.remember(request.attempt, answer, now))
            position = self.store.commit(call.changes)
        self.store.sync(position)
        return answer

    def act(self, run: Callable[[Call], Answered], request: Request = NO_REQUEST) -> Answered:
        """Runs what no API request asked for: a page, or the passing of time. Raises its ApiError."""
        with self.store.lock:
            call = self._call(request, self.clock.now())
            answer = run(call)
            position = self.store.commit(call.changes)
        self.store.sync(position)
        return answer

    def close(self) -> None:
        self.store.close()

    def _call(self, request: Request, now: float) -> Call:
        return Call(
            self.store,
            self.usage,
            request.path,
            request.ids,
            request.params,
            now,
            self.summary_delay_seconds,
            request.base_url,
        )


def _run(endpoint: Endpoint, call: Call, fault: Fault) -> Answer:
    """A refusal leaves no changes; a fault after the run leaves them, and only the answer is an error."""
    try:
        fault.on_run("before")
        answer = Answer(200, call.shown(endpoint.run(call), call.params.get("expand", ())))
    except ApiError as error:
        call.changes.clear()
        return error.answer()
    try:
        fault.on_run("after")
    except ApiError as error:
        return error.answer()
    return answer
