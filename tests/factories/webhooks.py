"""Webhooks as Stripe would send them to an app of ours."""

import json
import time
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import stripe
from flask import Flask
from werkzeug.test import TestResponse

from metering.models import StripeEvent
from metering.runtime import Runtime
from metering.stripe_sync.processing import process_due
from tests.factories.world import World

SECRET = "whsec_snapshot_for_tests"
THIN_SECRET = "whsec_thin_for_tests"
NUMBERS = count(1)


def snapshot(type: str, /, object_id: str | None, **changed: Any) -> dict[str, Any]:
    """What a snapshot event says; its object holds nothing that anybody should believe."""
    data = {"object": {"id": object_id, "object": type.rpartition(".")[0], "status": "a lie"}}
    return {
        "id": f"evt_{next(NUMBERS)}",
        "object": "event",
        "api_version": "2026-10-28.endive",
        "created": int(time.time()),
        "data": data,
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": type,
    } | changed


def thin(type: str, **changed: Any) -> dict[str, Any]:
    return {
        "id": f"evt_test_{next(NUMBERS)}",
        "object": "v2.core.event",
        "type": type,
        "created": "2026-11-10T12:00:00.123Z",
        "livemode": False,
        "context": None,
        "related_object": None,
    } | changed


@dataclass
class Sender:
    """Sends to an app as Stripe does."""

    app: Flask
    world: World
    paths: dict[bool, str] = field(default_factory=lambda: {False: "/webhooks/stripe", True: "/webhooks/stripe/thin"})

    @property
    def runtime(self) -> Runtime:
        runtime: Runtime = self.app.extensions["metering"].runtime
        return runtime

    def send(self, event: dict[str, Any], *, age: float = 0, secret: str | None = None) -> TestResponse:
        thin = event.get("object") == "v2.core.event"
        body = json.dumps(event)
        return self.send_body(body.encode(), thin=thin, age=age, secret=secret)

    def send_body(self, body: bytes, *, thin: bool = False, age: float = 0, secret: str | None = None) -> TestResponse:
        key = secret or (THIN_SECRET if thin else SECRET)
        signed = stripe.WebhookSignature.generate_signature_header(body.decode("latin-1"), key, int(time.time() - age))
        return self.app.test_client().post(self.paths[thin], data=body, headers={"Stripe-Signature": signed})

    def process(self) -> int:
        """What the sweep does."""
        settled = process_due(self.runtime)
        self.world.session.expire_all()
        self.world.send()
        return settled

    def events(self) -> list[StripeEvent]:
        self.world.session.commit()
        query = self.world.session.query(StripeEvent).order_by(StripeEvent.id)
        return query.execution_options(populate_existing=True).all()

    def states(self) -> list[str]:
        return [event.state for event in self.events()]
