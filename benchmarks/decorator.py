"""What `@metered` adds to a call, against what Flask-Limiter's fixed window with headers adds on the same Redis.

Both answer with the limits' headers, and Redis makes both durable before they answer. Ours also knows the API key,
holds the quota while the view runs, and records what each call used; the peer only counts. Measured with one, two and
four limits on a call: each limit of the peer's is a write of its own, ours are one.
"""

from collections.abc import Callable

from flask import Flask
from flask_limiter import Limiter
from werkzeug.test import Client

from benchmarks.common import Result, make_customer, median_micros, product
from metering import Metering, metered, usage
from metering.runtime import Runtime

ROUNDS = 5
CALLS = 300
BOUND = 0.6
METERS = ("api_call", "tokens", "messages", "compute_seconds")
PEER_LIMITS = ("1000000/day", "900000/hour", "800000/minute", "700000/month")


def run() -> list[Result]:
    with product() as runtime:
        _, secret = make_customer(runtime, "acme", "pro")
        headers = {"Authorization": f"Bearer {secret}"}
        return [_compare(runtime, headers, limits) for limits in (1, 2, 4)]


def _compare(runtime: Runtime, headers: dict[str, str], limits: int) -> Result:
    ours, theirs = our_app(runtime, limits).test_client(), limiter_app(runtime, limits).test_client()
    us, them = [], []
    for _ in range(ROUNDS):
        us.append(_added(ours, headers))
        them.append(_added(theirs, headers))
    added, peer = sorted(us)[ROUNDS // 2], sorted(them)[ROUNDS // 2]
    question = (
        f"time @metered adds to a call with {limits} limits / time Flask-Limiter's fixed window with headers adds"
    )
    return Result(question, f"{added:.0f} µs", f"{peer:.0f} µs", added / peer, BOUND)


def _added(client: Client, headers: dict[str, str]) -> float:
    def call(path: str) -> Callable[[], None]:
        def once() -> None:
            assert client.get(path, headers=headers).status_code == 200

        return once

    return median_micros(call("/guarded"), CALLS) - median_micros(call("/bare"), CALLS)


def our_app(runtime: Runtime, limits: int = 1) -> Flask:
    app = Flask("ours")
    Metering(app, settings=runtime.settings, runtime=runtime)
    app.get("/bare")(bare)
    further = METERS[1:limits]

    @app.get("/guarded")
    @metered(METERS[0], reserve=dict.fromkeys(further, 1))
    def guarded() -> dict[str, bool]:
        for meter in further:
            usage.set(meter, 1)
        return {"ok": True}

    return app


def limiter_app(runtime: Runtime, limits: int = 1) -> Flask:
    app = Flask("theirs")
    redis_url = "redis+" + runtime.addresses.redis_url.partition("?")[0]
    limiter = Limiter(lambda: "acme", app=app, storage_uri=redis_url, headers_enabled=True, strategy="fixed-window")
    app.get("/bare")(bare)

    @app.get("/guarded")
    @limiter.limit(";".join(PEER_LIMITS[:limits]))
    def guarded() -> dict[str, bool]:
        return {"ok": True}

    return app


def bare() -> dict[str, bool]:
    return {"ok": True}
