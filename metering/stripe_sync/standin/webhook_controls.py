"""How events are delivered, and what became of each delivery, under `/_standin/webhooks`."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, current_app, jsonify, request

from metering.stripe_sync.standin.deliverer import MANNER, Deliverer
from metering.stripe_sync.standin.deliveries import DELIVERIES
from metering.stripe_sync.standin.errors import ApiError, missing_parameter
from metering.stripe_sync.standin.given_destinations import give_destination
from metering.stripe_sync.standin.service import Standin

views = Blueprint("webhook_controls", __name__, url_prefix="/_standin/webhooks")

MAX_COPIES = 100


@views.get("")
def deliveries() -> Response:
    """Oldest first; `?status=` picks pending, delivered or failed ones."""
    standin = _standin()
    wanted = request.args.get("status")
    with standin.store.lock:
        found = [one for one in standin.store.of(DELIVERIES).values() if wanted in (None, one["status"])]
    return jsonify(**_deliverer().manner, deliveries=found)


@views.post("")
def set_manner() -> Response:
    """Any of `hold`, `shuffle`, `copies`, `drop_answers`; what isn't named stays."""
    sent = _json(MANNER)
    _deliverer().set_manner(sent)
    return jsonify(_deliverer().manner)


@views.post("/destinations")
def set_destination() -> Response:
    """The one destination of a payload whose signing secret the caller chooses, made or changed.

    `url`, `secret`, `payload` (snapshot or thin), `enabled_events` (all unless told).
    """
    sent = _json({"url": "", "secret": "", "payload": "", "enabled_events": []})
    for name in ("url", "secret", "payload"):
        if not sent.get(name):
            raise missing_parameter(name)
    if sent["payload"] not in ("snapshot", "thin"):
        raise ApiError("payload: must be snapshot or thin", param="payload")
    return jsonify(id=_standin().act(lambda call: give_destination(call, **sent)))


@views.post("/deliver")
def deliver() -> Response:
    """Sends now: `ids` of deliveries or events in that order (else all pending), `shuffle`, `copies`."""
    sent = _json({"ids": [], "shuffle": False, "copies": 1})
    try:
        sent_out = _deliverer().deliver(
            sent.get("ids"), shuffle=sent.get("shuffle", False), copies=sent.get("copies", 1)
        )
    except KeyError as error:
        raise ApiError(f"No such delivery or event: {error}", param="ids") from error
    return jsonify(deliveries=sent_out)


def _json(known: dict[str, Any]) -> dict[str, Any]:
    """The object that was sent, each value of the kind of the known one; numbers are at least 0, `copies` 1 to 100."""
    sent = request.get_json()
    if not isinstance(sent, dict):
        raise ApiError("send a JSON object")
    for name, value in sent.items():
        if name not in known or type(value) is not type(known[name]):
            raise ApiError(f"{name}: must be one of {', '.join(known)}, of the right kind", param=name)
    if not 1 <= sent.get("copies", 1) <= MAX_COPIES or sent.get("drop_answers", 0) < 0:
        raise ApiError(f"copies: 1 to {MAX_COPIES}; drop_answers: 0 or more")
    for name in ("ids", "enabled_events"):
        if not all(isinstance(one, str) for one in sent.get(name, ())):
            raise ApiError(f"{name}: must be strings", param=name)
    return sent


def _standin() -> Standin:
    standin: Standin = current_app.extensions["standin"]
    return standin


def _deliverer() -> Deliverer:
    deliverer: Deliverer = current_app.extensions["deliverer"]
    return deliverer
