"""API consumers of an application under test: a customer, its key, and calls made with it."""

from dataclasses import dataclass
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from metering.keeper import Keeper
from metering.service import Metering
from tests.factories.world import World


@dataclass
class ApiConsumer:
    """Calls are buffered to their end and closed, as a server would do it."""

    app: Flask
    secret: str
    customer: str

    def call(self, method: str, path: str, *, key: str | None = None, **options: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {self.secret}"} | options.pop("headers", {})
        if key is not None:
            headers["Idempotency-Key"] = key
        options.setdefault("buffered", True)
        return self.app.test_client().open(path, method=method, headers=headers, **options)

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.call("GET", path, **options)

    def post(self, path: str, **options: Any) -> TestResponse:
        return self.call("POST", path, **options)

    def put(self, path: str, data: bytes, **options: Any) -> TestResponse:
        return self.call("PUT", path, data=data, **options)

    def delete(self, path: str, **options: Any) -> TestResponse:
        return self.call("DELETE", path, **options)


def consumer(app: Flask, world: World, customer: str = "acme", plan: str = "free", *scopes: str) -> ApiConsumer:
    """A new customer with a key, known to the intake."""
    made = world.key(world.customer(customer, plan), *scopes)
    return ApiConsumer(app, made.secret, customer)


def keep(metering: Metering) -> None:
    """What the worker does all the time, once: feed the inbox, send state, drain."""
    keeper = Keeper(metering.runtime)
    keeper.feed_inbox()
    keeper.send_state()
    keeper.drain_all()
