"""`python -m metering.stripe_sync.standin --port 12111 --store <folder>`: serves until SIGTERM or SIGINT.

Says on standard output where it listens, once it does; `--port 0` takes a free port.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from pathlib import Path

from metering.stripe_sync.standin.app import background, create_standin
from metering.stripe_sync.standin.server import StandinServer
from metering.stripe_sync.standin.store import CorruptJournalError, StoreInUseError


def main() -> int:
    options = _options()
    try:
        app = create_standin(options.store, time.time)
        server = StandinServer(options.host, options.port, app)
    except (StoreInUseError, CorruptJournalError, OSError) as error:
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
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
