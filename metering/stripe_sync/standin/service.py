"""Runs an endpoint once: under its idempotency key, with its changes and its answer in one commit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from metering.stripe_sync.standin import checkout_sessions
from metering.stripe_sync.standin.billing_cycle import invoice_due, step, subscription_due
from metering.stripe_sync.standin.checkout_sessions import CHECKOUT_SESSIONS
from metering.stripe_sync.standin.clock import SETTINGS, Clock
from metering.stripe_sync.standin.deliveries import PendingDeliveries
from metering.stripe_sync.standin.endpoint import Call, Endpoint
from metering.stripe_sync.standin.errors import Answer, ApiError
from metering.stripe_sync.standin.faults import Fault, Faults
from metering.stripe_sync.standin.idempotency import Attempt, IdempotencyKeys
from metering.stripe_sync.standin.invoicing import INVOICES
from metering.stripe_sync.standin.schedule import Due, Schedule
from metering.stripe_sync.standin.store import Change, Document, Store
from metering.stripe_sync.standin.subscription_documents import SUBSCRIPTIONS
from metering.stripe_sync.standin.test_clocks import TEST_CLOCKS, finish, target
from metering.stripe_sync.standin.usage import Usage


@dataclass(frozen=True)
class Request:
    """A request that passed its endpoint's rules and is about to run."""

    path: str
    ids: dict[str, str]
    params: dict[str, Any]
    attempt: Attempt | None
    base_url: str = ""


# The nouns that time changes: when a document is due, and what happens to it then.
_TIMELY: dict[str, tuple[Callable[[Document], int | None], Callable[[Call, str, str], None]]] = {
    CHECKOUT_SESSIONS: (checkout_sessions.due, checkout_sessions.end_in_time),
    INVOICES: (invoice_due, step),
    SUBSCRIPTIONS: (subscription_due, step),
}

NO_REQUEST = Request("", {}, {}, None)
Answered = TypeVar("Answered")


class Standin:
    """Everything one stand-in holds. Close it to free its store's folder."""

    def __init__(self, store_folder: Path, clock: Callable[[], float]) -> None:
        self.usage = Usage()
        self.schedule = Schedule({noun: due for noun, (due, _) in _TIMELY.items()})
        self.pending = PendingDeliveries()
        self.store = Store(store_folder, watchers=[self.usage.watch, self.schedule.watch, self.pending.watch])
        self.clock = Clock(self.store, clock)
        self.keys = IdempotencyKeys(self.store)
        self.faults = Faults()
        self._reached_at = ""

    @property
    def summary_delay_seconds(self) -> float:
        return float(self.store.of(SETTINGS).get("summaries", {}).get("delay_seconds", 0.0))

    def change_setting(self, change: Change) -> None:
        with self.store.lock:
            self.store.commit([change])
            position = self._pass_time()
        self.store.sync(position)

    def run(self, endpoint: Endpoint, request: Request, fault: Fault) -> Answer:
        """The kept answer to a repeated key; else runs the endpoint. What it answers is on disk."""
        with self.store.lock:
            self._pass_time()
            now = self.clock.now()
            if request.attempt and (kept := self.keys.recall(request.attempt, now)):
                return kept
            call = self._call(request, now)
            answer = _run(endpoint, call, fault)
            if request.attempt:
                call.changes.append(self.keys.remember(request.attempt, answer, now))
            self.store.commit(call.changes)
            position = self._pass_time()
        self.store.sync(position)
        return answer

    def act(self, run: Callable[[Call], Answered], request: Request = NO_REQUEST) -> Answered:
        """Runs what no API request asked for: a page, or the passing of time. Raises its ApiError."""
        with self.store.lock:
            self._pass_time()
            call = self._call(request, self.clock.now())
            answer = run(call)
            self.store.commit(call.changes)
            position = self._pass_time()
        self.store.sync(position)
        return answer

    def close(self) -> None:
        self.store.close()

    def _pass_time(self) -> int:
        """Each step that is due, in its order and in a commit of its own; answers the position to sync to."""
        now = self.clock.now()
        while due := self.schedule.first(None, now):
            self._step(due)
        for clock in [clock for clock in self.store.of(TEST_CLOCKS).values() if target(clock) is not None]:
            until = target(clock) or 0
            while due := self.schedule.first(clock["id"], until):
                self._step(due)
            call = self._call(NO_REQUEST, now)
            finish(call, clock)
            self.store.commit(call.changes)
        return self.store.commit([])

    def _step(self, due: Due) -> None:
        time, noun, id = due
        call = self._call(NO_REQUEST, float(time))
        _TIMELY[noun][1](call, noun, id)
        self.store.commit(call.changes)

    def _call(self, request: Request, now: float) -> Call:
        """What happens by itself links to the address at which the stand-in was reached last."""
        self._reached_at = request.base_url or self._reached_at
        return Call(
            self.store,
            self.usage,
            request.path,
            request.ids,
            request.params,
            now,
            self.summary_delay_seconds,
            self._reached_at,
        )


def _run(endpoint: Endpoint, call: Call, fault: Fault) -> Answer:
    """A refusal leaves no changes unless it says so; after a fault `after` the run they stay, only the answer fails."""
    try:
        fault.on_run("before")
        answer = Answer(200, call.shown(endpoint.run(call), call.params.get("expand", ())))
    except ApiError as error:
        if not error.leaves_changes:
            call.changes.clear()
        return error.answer()
    try:
        fault.on_run("after")
    except ApiError as error:
        return error.answer()
    return answer
