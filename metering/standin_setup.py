"""Makes the local stand-in what a Stripe account in use is: told where its webhooks go, and what is sold.

For development alone, at each start: what is there already stays.
"""

import json
import threading
import urllib.request
from collections.abc import Callable

from metering.errors import MeteringError
from metering.runtime import Runtime
from metering.stripe_sync.push.run import look, push

PATIENCE_SECONDS = 0.1
DESTINATIONS = (("/webhooks/stripe", "snapshot"), ("/webhooks/stripe/thin", "thin"))


def set_up_standin(runtime: Runtime, address: str, *, report: Callable[[str], None]) -> None:
    """Wait for the stand-in, then have it send its events to the product at `address`, and push the catalog to it."""
    settings = runtime.settings
    base, secrets = settings.stripe_api_base, (settings.stripe_webhook_secret, settings.stripe_webhook_thin_secret)
    _wait_for(f"{base}/_standin/clock")
    for (path, payload), secret in zip(DESTINATIONS, secrets, strict=True):
        if secret is not None:
            destination = {"url": address + path, "payload": payload, "secret": secret.get_secret_value()}
            _post(f"{base}/_standin/webhooks/destinations", destination)
    try:
        push(runtime, look(runtime), actor="development")
    except MeteringError as error:
        report(f"the plans are not for sale at the stand-in: {error.message}")


def _post(url: str, values: dict[str, str]) -> None:
    body = json.dumps(values).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - our own address
    with urllib.request.urlopen(request, timeout=10):  # noqa: S310
        return


def _wait_for(url: str) -> None:
    wait = threading.Event()
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - our own address
                return
        except OSError:
            wait.wait(PATIENCE_SECONDS)
