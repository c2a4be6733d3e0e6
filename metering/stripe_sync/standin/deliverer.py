"""Sends what is due to its destinations, one delivery after another, and keeps what came of each attempt.

How it sends is set through `/_standin/webhooks` and kept in the store: `hold` (nothing goes out by itself), `shuffle`
(what is due goes out in any order), `copies` (how often each is sent), `drop_answers` (of how many sendings the answer
counts as lost, so that they are sent again).
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from metering.stripe_sync.standin.announcements import EVENTS
from metering.stripe_sync.standin.clock import SETTINGS
from metering.stripe_sync.standin.deliveries import DELIVERIES, after_attempt, given_up
from metering.stripe_sync.standin.destinations import Destination, find_destination, secret_of
from metering.stripe_sync.standin.service import Standin
from metering.stripe_sync.standin.signatures import signature_header
from metering.stripe_sync.standin.store import Change, Document

ANSWER_SECONDS = 10
ROUND_SECONDS = 1
MANNER: dict[str, Any] = {"hold": False, "shuffle": False, "copies": 1, "drop_answers": 0}


class Deliverer:
    """Only one sends at a time: once `set_manner` has returned nothing goes out in the old manner."""

    def __init__(self, standin: Standin, real_time: Callable[[], float] = time.time) -> None:
        self._standin = standin
        self._real_time = real_time
        self._sending = threading.Lock()

    @property
    def manner(self) -> dict[str, Any]:
        return {**MANNER, **self._standin.store.of(SETTINGS).get("webhooks", {})}

    def set_manner(self, changed: dict[str, Any]) -> None:
        with self._sending:
            self._standin.change_setting(Change(SETTINGS, "webhooks", {**self.manner, **changed}))

    def deliver_due(self) -> None:
        """One attempt at each delivery that is due, for a second or so; the rest waits for the next call.

        Between two sendings it looks again whether they are held and whether the delivery is still due.
        """
        end = time.monotonic() + ROUND_SECONDS
        with self._standin.store.lock:
            due = self._standin.pending.due(self._real_time())
        if self.manner["shuffle"]:
            random.shuffle(due)
        for id in due:
            with self._sending:
                if self.manner["hold"] or time.monotonic() > end:
                    return
                if self._standin.pending.is_due(id, self._real_time()):
                    self._send_all([id], shuffle=False, copies=self.manner["copies"])

    def deliver(self, wanted: list[str] | None, *, shuffle: bool, copies: int) -> list[Document]:
        """Sends at once, held or not, due or not: these deliveries (or those of these events) in this order.

        None means all that are pending. What was delivered already is sent again. Answers them as they are then.
        Raises KeyError for an id that is neither a delivery's nor an event's with deliveries.
        """
        with self._sending:
            with self._standin.store.lock:
                ids = self._standin.pending.all() if wanted is None else [*self._chosen(wanted)]
            self._send_all(ids, shuffle, copies)
            with self._standin.store.lock:
                return [self._standin.store.of(DELIVERIES)[id] for id in dict.fromkeys(ids)]

    def _chosen(self, wanted: list[str]) -> Iterable[str]:
        deliveries = self._standin.store.of(DELIVERIES)
        for id in wanted:
            named = [id] if id in deliveries else [one["id"] for one in deliveries.values() if one["event"] == id]
            if not named:
                raise KeyError(id)
            yield from named

    def _send_all(self, ids: list[str], shuffle: bool, copies: int) -> None:
        sendings = ids * copies if shuffle else [id for id in ids for _ in range(copies)]
        if shuffle:
            random.shuffle(sendings)
        for id in sendings:
            self._send(id)

    def _send(self, id: str) -> None:
        store = self._standin.store
        with store.lock:
            delivery = store.of(DELIVERIES)[id]
            event = store.of(delivery["event_noun"])[delivery["event"]]
            destination = find_destination(store, delivery["destination"])
            secret = secret_of(store, delivery["destination"])
        if destination is None or not destination.enabled:
            if delivery["status"] == "pending":
                self._keep(given_up(delivery, "the destination is deleted or disabled"))
            return
        at = self._real_time()
        answer = _post(destination, _body(event), secret, at)
        if left := self.manner["drop_answers"]:
            answer = f"answer dropped: {answer}"
            self._standin.change_setting(Change(SETTINGS, "webhooks", {**self.manner, "drop_answers": left - 1}))
        self._keep(after_attempt(delivery, answer, at))

    def _keep(self, delivery: Document) -> None:
        self._standin.change_setting(Change(DELIVERIES, delivery["id"], delivery))


def _body(event: Document) -> bytes:
    """A snapshot event as it is read through the API; of a thin one only where to look."""
    if event["object"] == EVENTS:
        sent = {**event, "pending_webhooks": 1}
    else:
        sent = {name: event[name] for name in ("id", "object", "type", "created", "livemode", "context", "reason")}
        if event["related_object"]:
            sent["related_object"] = event["related_object"]
    return json.dumps(sent, indent=2).encode()


def _post(destination: Destination, body: bytes, secret: str, at: float) -> int | str:
    """The status of the answer (a redirect is not followed), or else why there is none."""
    url = urlsplit(destination.url)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.netloc, timeout=ANSWER_SECONDS)
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "Stripe-Signature": signature_header(body, secret, at),
        "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
    }
    try:
        connection.request("POST", url._replace(scheme="", netloc="", fragment="").geturl() or "/", body, headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"no answer: {error!r}"
    finally:
        connection.close()
