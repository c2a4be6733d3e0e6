"""A bare Flask app with metered endpoints of every kind, as a host's would be."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask import Flask, Response, abort, make_response, request, send_file, stream_with_context

from metering import Metering, metered, usage
from metering.settings import load_settings
from tests.factories.world import PARTITIONS, World


@contextmanager
def host_app(world: World, home: Path, by_key: bool = True, **settings: Any) -> Iterator[Flask]:
    """`by_key=False`: the host says itself whose request it is, by the header X-Customer."""
    app = Flask("host")
    app.config["MAX_CONTENT_LENGTH"] = 10_000
    settings = {"env": "development", "home": home, "partitions": PARTITIONS} | settings
    customer = None if by_key else lambda: request.headers.get("X-Customer")
    metering = Metering(app, customer=customer, settings=load_settings(**settings), clock=lambda: world.now)
    add_views(app)
    yield app
    if "runtime" in vars(metering):
        metering.runtime.close()


def add_views(app: Flask) -> None:
    """A count of the runs of each view stands in `app.extensions["runs"]`."""
    runs = app.extensions["runs"] = {"count": 0}

    @app.route("/call", methods=["GET", "POST"])
    @metered("api_call")
    def call() -> dict[str, int]:
        runs["count"] += 1
        return {"run": runs["count"]}

    @app.post("/units")
    @metered("api_call", quantity=lambda request: request.json["units"])
    def units() -> dict[str, Any]:
        runs["count"] += 1
        return {"customer": usage.customer}

    @app.post("/tokens")
    @metered("api_call", reserve={"tokens": lambda request: int(request.args["most"])})
    def tokens() -> dict[str, Any]:
        runs["count"] += 1
        usage.add("tokens", int(request.args.get("first", 0)))
        usage.add("tokens", int(request.args.get("second", 0)))
        return {"run": runs["count"]}

    @app.post("/seconds")
    @metered("compute_seconds", quantity="1.5")
    def seconds() -> str:
        if "real" in request.args:
            usage.set("compute_seconds", request.args["real"])
        return "done"

    @app.get("/undeclared")
    @metered("api_call")
    def undeclared() -> str:
        usage.add("tokens", 1)
        return "never"

    @app.get("/status/<int:code>")
    @metered("api_call")
    def status(code: int) -> Response:
        return make_response("answer", code)

    @app.get("/abort/<int:code>")
    @metered("api_call")
    def aborted(code: int) -> str:
        abort(code)

    @app.get("/abort-response")
    @metered("api_call")
    def aborted_response() -> str:
        abort(make_response("made by hand", 418))

    @app.get("/raises")
    @metered("api_call")
    def raises() -> str:
        raise RuntimeError("the view broke")

    @app.get("/only-found/<int:code>")
    @metered("api_call", charge_if=lambda response: response.status_code != 404)
    def only_found(code: int) -> Response:
        return make_response("answer", code)

    @app.get("/charge-breaks")
    @metered("api_call", charge_if=lambda response: 1 / 0)
    def charge_breaks() -> str:
        return "done"

    @app.get("/async")
    @metered("api_call", reserve={"tokens": 10})
    async def asynchronous() -> str:
        usage.set("tokens", 4)
        return "done"

    @app.route("/stream", methods=["GET", "POST"])
    @metered("api_call", reserve={"tokens": 100})
    def stream() -> Response:
        runs["count"] += 1

        @stream_with_context
        def produce() -> Iterator[str]:
            produced = 0
            try:
                for _ in range(int(request.args.get("parts", 5))):
                    if request.args.get("breaks") == str(produced):
                        raise RuntimeError("the stream broke")
                    produced += 1
                    yield "x" * 10
            finally:
                usage.set("tokens", produced)

        return Response(produce(), status=int(request.args.get("status", 200)))

    @app.get("/file")
    @metered("api_call")
    def file() -> Response:
        return send_file(__file__, mimetype="text/plain")

    @app.post("/read")
    @metered("api_call")
    def read() -> dict[str, int]:
        return {"size": len(request.get_data())}

    @app.post("/level")
    @metered("api_call", reserve={"storage_bytes": 0})
    def level() -> str:
        runs["count"] += 1
        usage.add("storage_bytes", int(request.args["change"]))
        return "done"

    @app.post("/items/<name>")
    @metered("api_call")
    def item(name: str) -> dict[str, Any]:
        runs["count"] += 1
        return {"name": name, "run": runs["count"], "body": "x" * int(request.args.get("size", 0))}
