"""`python -m metering.stripe_sync.standin --port 12111 --store <folder>`: serves until SIGTERM or SIGINT.

Says on standard output where it listens, once it does; `--port 0` takes a free port. `--snapshots-to` and `--thin-to`
name URLs that get every event of a kind, signed with the secret in STRIPE_WEBHOOK_SECRET or STRIPE_WEBHOOK_THIN_SECRET.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from pathlib import Path

from metering.stripe_sync.standin.app import background, create_standin
from metering.stripe_sync.standin.errors import ApiError
from metering.stripe_sync.standin.given_destinations import give_destination
from metering.stripe_sync.standin.server import StandinServer
from metering.stripe_sync.standin.service import Standin
from metering.stripe_sync.standin.store import CorruptJournalError, StoreInUseError


def main() -> int:
    options = _options()
    try:
        app = create_standin(options.store, time.time)
        _deliver_to("snapshot", options.snapshots_to, "STRIPE_WEBHOOK_SECRET", app.extensions["standin"])
        _deliver_to("thin", options.thin_to, "STRIPE_WEBHOOK_THIN_SECRET", app.extensions["standin"])
        server = StandinServer(options.host, options.port, app)
    except (StoreInUseError, CorruptJournalError, OSError, ApiError) as error:
        sys.stderr.write(f"the stand-in can't start: {error}\n")
        return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        # shutdown() waits for the loop that this very thread runs, so another one has to call it.
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    sys.stdout.write(f"Stripe stand-in on http://{options.host}:{server.server_port}\n")
    sys.stdout.flush()
    thread = background(app)
    thread.start()
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    server.wait_until_answered(seconds=10)
    thread.stop()
    app.extensions["standin"].close()
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m metering.stripe_sync.standin", description="A small local Stripe.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=12111)
    parser.add_argument("--store", type=Path, required=True, help="folder of the journal; made when missing")
    parser.add_argument("--snapshots-to", metavar="URL", help="where every snapshot event goes")
    parser.add_argument("--thin-to", metavar="URL", help="where every thin event goes")
    return parser.parse_args()


def _deliver_to(payload: str, url: str | None, variable: str, standin: Standin) -> None:
    if url is None:
        return
    secret = os.environ.get(variable)
    if not secret:
        raise OSError(f"{variable} must hold the secret to sign with")
    standin.act(lambda call: give_destination(call, url, payload, secret))


if __name__ == "__main__":
    sys.exit(main())
