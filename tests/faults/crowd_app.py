"""The app that a crowd of clients calls: one endpoint over two limits, in a Flask app of its own."""

import os
import time

from flask import Flask, abort, request

from metering import Metering, metered, usage

app = Flask(__name__)
Metering(app)


@app.post("/work")
@metered(
    "api_call",
    quantity=lambda request: int(request.args["units"]),
    reserve={"tokens": lambda request: int(request.args["most"])},
)
def work() -> dict[str, int]:
    usage.set("tokens", int(request.args["tokens"]))
    time.sleep(0.004)  # the work, during which the reservation is held
    if "fails" in request.args:
        abort(500)
    return {"pid": os.getpid()}


@app.get("/pid")
def pid() -> dict[str, int]:
    return {"pid": os.getpid()}
