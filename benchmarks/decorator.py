"""What `@metered` adds to a call, against what Flask-Limiter's fixed window with headers adds on the same Redis.

Both answer with the limit's headers and both have one write that Redis must make durable. Ours also knows the API key,
holds and settles quota, and records the call; the peer only counts it.
"""

from collections.abc import Callable

from flask import Flask
from flask_limiter import Limiter
from werkzeug.test import Client

from benchmarks.common import Result, make_customer, median_micros, product
from metering import Metering, metered
from metering.runtime import Runtime

ROUNDS = 7
CALLS = 400


def run() -> list[Result]:
    with product() as runtime:
        _, secret = make_customer(runtime, "acme", plan="pro")
        ours, theirs = our_app(runtime).test_client(), limiter_app(runtime).test_client()
        headers = {"Authorization": f"Bearer {secret}"}
        added_by_us, added_by_them = [], []
        for _ in range(ROUNDS):
            added_by_us.append(_added(ours, headers))
            added_by_them.append(_added(theirs, headers))
        us, them = sorted(added_by_us)[ROUNDS // 2], sorted(added_by_them)[ROUNDS // 2]
    return [
        Result(
            "time @metered adds to a call / time Flask-Limiter's fixed window with headers adds",
            f"{us:.0f} µs",
            f"{them:.0f} µs",
            us / them,
            0.6,
        )
    ]


def _added(client: Client, headers: dict[str, str]) -> float:
    def call(path: str) -> Callable[[], None]:
        def once() -> None:
            assert client.get(path, headers=headers).status_code == 200

        return once

    return median_micros(call("/guarded"), CALLS) - median_micros(call("/bare"), CALLS)


def our_app(runtime: Runtime) -> Flask:
    app = Flask("ours")
    Metering(app, settings=runtime.settings, runtime=runtime)
    app.get("/bare")(bare)

    @app.get("/guarded")
    @metered("api_call")
    def guarded() -> dict[str, bool]:
        return {"ok": True}

    return app


def limiter_app(runtime: Runtime) -> Flask:
    app = Flask("theirs")
    redis_url = "redis+" + runtime.addresses.redis_url.partition("?")[0]
    limiter = Limiter(lambda: "acme", app=app, storage_uri=redis_url, headers_enabled=True, strategy="fixed-window")
    app.get("/bare")(bare)

    @app.get("/guarded")
    @limiter.limit("1000000/day")
    def guarded() -> dict[str, bool]:
        return {"ok": True}

    return app


def bare() -> dict[str, bool]:
    return {"ok": True}
