"""The local Stripe stand-in with Stripe's own client to drive it: as a real process, or inside the test's process."""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TextIO

import flask
import requests
import stripe

from metering.stripe_sync.standin import __main__ as standin_main
from metering.stripe_sync.standin import create_standin
from tests.factories.forks import FORKS

KEY = "sk_test_standin"
PATIENCE_SECONDS = 20
HOUR = 3600
DAY = 24 * HOUR


class Inspected:
    """What both kinds of stand-in show and let be set under `/_standin/`."""

    def _inspect(self, method: str, path: str, values: Any = None) -> Any:
        raise NotImplementedError

    def inspect(self, path: str) -> Any:
        """What `/_standin/<path>` shows."""
        return self._inspect("GET", path)

    def set(self, path: str, /, **values: Any) -> Any:
        """Posts values to `/_standin/<path>`."""
        return self._inspect("POST", path, values)

    def lift_faults(self) -> None:
        self._inspect("DELETE", "faults")

    def total(self, event_name: str) -> str | None:
        """The one hourly total of a meter, as an exact decimal string; None where nothing is counted."""
        totals = [total["total"] for total in self.inspect("totals")["totals"] if total["event_name"] == event_name]
        assert len(totals) <= 1, totals
        return totals[0] if totals else None


class StandinProcess(Inspected):
    """A stand-in over one store folder, which can be killed and started again over the same folder."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.start()

    def start(self) -> None:
        ours, theirs = FORKS.Pipe(duplex=False)
        self.process = FORKS.Process(target=run_standin, args=(self.store, theirs), daemon=True)
        self.process.start()
        theirs.close()
        with ours:
            said = ours.recv() if ours.poll(PATIENCE_SECONDS) else "nothing"
        if "http" not in said:
            self.process.join(PATIENCE_SECONDS if said != "nothing" else 0)  # it has said why, and ends by itself
            raise ChildProcessError(f"the stand-in did not start, exit code {self._end(signal.SIGKILL)}: {said}")
        self.url: str = said.split()[-1]

    def kill(self) -> None:
        """As the kernel would: nothing is flushed, nobody says goodbye."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Asks it to stop, and answers its exit code."""
        return self._end(signal.SIGTERM)

    def client(self, retries: int = 0, key: str = KEY, timeout: float = PATIENCE_SECONDS) -> stripe.StripeClient:
        http = stripe.RequestsClient(timeout=timeout)
        return stripe.StripeClient(key, base_addresses={"api": self.url}, max_network_retries=retries, http_client=http)

    def wait_for_faults_to_strike(self) -> None:
        """Until each armed fault has met its requests, so that those are being answered right now."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.inspect("faults")["faults"]:
            assert time.monotonic() < deadline, "no request met the armed fault"

    def raw(self, method: str, path: str, **options: Any) -> requests.Response:
        """A request that Stripe's client would not make."""
        return requests.request(method, self.url + path, timeout=PATIENCE_SECONDS, **options)

    def _inspect(self, method: str, path: str, values: Any = None) -> Any:
        response = self.raw(method, f"/_standin/{path}", json=values)
        response.raise_for_status()
        return response.json()

    def _end(self, number: int) -> int:
        if self.process.exitcode is None and self.process.pid is not None:
            os.kill(self.process.pid, number)
        self.process.join(PATIENCE_SECONDS)
        assert self.process.exitcode is not None, "the stand-in does not end"
        return self.process.exitcode


def run_standin(store: Path, said: Connection) -> None:
    """What `python -m metering.stripe_sync.standin` runs; what that says first goes to `said`."""
    sys.argv = ["standin", "--port", "0", "--store", str(store)]
    sys.stdout, sys.stderr = _Told(said, sys.stdout), _Told(said, sys.stderr)
    sys.exit(standin_main.main())


class _Told(io.StringIO):
    """An output that somebody else reads too, as long as they care."""

    def __init__(self, reader: Connection, shown: TextIO) -> None:
        super().__init__()
        self._reader, self._shown = reader, shown

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._reader.send(text)
        return self._shown.write(text)


class InProcessStandin(Inspected):
    """A stand-in inside the test's process: without a network, and told the time by the test."""

    def __init__(self, store: Path, now: float) -> None:
        self.now = now
        self._app = create_standin(store, lambda: self.now)

    def client(self) -> stripe.StripeClient:
        return stripe.StripeClient(KEY, base_addresses={"api": _NOWHERE}, http_client=_InProcessHttp(self._app))

    def close(self) -> None:
        self._app.extensions["standin"].close()

    def _inspect(self, method: str, path: str, values: Any = None) -> Any:
        response = self._app.test_client().open(f"/_standin/{path}", method=method, json=values)
        assert response.status_code == 200, response.text
        return response.json


_NOWHERE = "http://standin"


class _InProcessHttp(stripe.HTTPClient):
    """Carries the requests of Stripe's client to a Flask application."""

    name = "in-process"

    def __init__(self, app: flask.Flask) -> None:
        super().__init__()
        self._http = app.test_client()

    def request(self, method: str, url: str, headers: Any, post_data: Any = None) -> tuple[bytes, int, Any]:
        path = url.removeprefix(_NOWHERE)
        response = self._http.open(path, method=method, headers=dict(headers), data=post_data)
        return response.get_data(), response.status_code, response.headers

    def close(self) -> None:
        """Nothing is open."""


def make_meter(client: stripe.StripeClient, event_name: str, formula: str = "sum") -> stripe.billing.Meter:
    return client.v1.billing.meters.create(
        {"display_name": event_name.title(), "event_name": event_name, "default_aggregation": {"formula": formula}}
    )


def report(
    client: stripe.StripeClient,
    customer: str,
    timestamp: int,
    value: str = "1",
    identifier: str | None = None,
    event_name: str = "api_call",
    key: str | None = None,
) -> stripe.billing.MeterEvent:
    """Sends one meter event, under an idempotency key of its own unless one is given."""
    params: Any = {
        "event_name": event_name,
        "payload": {"stripe_customer_id": customer, "value": value},
        "timestamp": timestamp,
    }
    if identifier:
        params["identifier"] = identifier
    return client.v1.billing.meter_events.create(params, {"idempotency_key": key} if key else {})


def summaries(
    client: stripe.StripeClient, meter: str, customer: str, start: int, end: int, **more: Any
) -> stripe.ListObject[stripe.billing.MeterEventSummary]:
    params: Any = {"customer": customer, "start_time": start, "end_time": end, **more}
    return client.v1.billing.meters.event_summaries.list(meter, params)
