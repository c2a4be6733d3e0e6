"""Where Stripe sends what happened: checked, stored once, answered at once. What follows from it is done by a job.

Always holds: what was answered with 2xx is stored. That a job could not be enqueued loses nothing: a sweep looks for
stored events that nobody has processed.
"""

import structlog
from flask import Blueprint, Response, current_app, request
from pydantic import SecretStr
from redis.exceptions import RedisError
from werkzeug.exceptions import NotFound

from metering.queues import enqueue
from metering.service import Metering
from metering.stripe_sync import inbound
from metering.stripe_sync.webhooks import mode_of, receive, why_not_ours

MAX_BODY_BYTES = 1024 * 1024
"""Stripe's snapshot events carry a whole object: some dozens of kilobytes."""

JOB = "metering.jobs.process_stripe_event"

blueprint = Blueprint("webhooks", __name__, url_prefix="/webhooks")

log = structlog.get_logger("metering.webhooks")


@blueprint.post("/stripe")
def snapshot_events() -> Response:
    """Stripe's events as they have always been: with a copy of the object, which is not believed."""
    return _take_in(_metering().settings.stripe_webhook_secret, thin=False)


@blueprint.post("/stripe/thin")
def thin_events() -> Response:
    """Events that only name what they are about: errors that billing meters met."""
    return _take_in(_metering().settings.stripe_webhook_thin_secret, thin=True)


def _take_in(secret: SecretStr | None, *, thin: bool) -> Response:
    """204 for an event that is stored now or was before. Raises BadWebhook; NotFound where no secret is set."""
    runtime = _metering().runtime
    if secret is None or runtime.settings.stripe == "off":
        raise NotFound("Nothing is received here: the destination's signing secret is not set.")
    request.max_content_length = MAX_BODY_BYTES
    signature = request.headers.get("Stripe-Signature")
    event = receive(request.get_data(cache=False), signature, secret.get_secret_value(), thin=thin)
    mode = mode_of(runtime.settings)
    ignored = why_not_ours(event, mode)
    with runtime.transaction() as session:
        row_id = inbound.keep(session, event, mode, ignored=ignored, now=runtime.clock())
    if ignored is not None:
        log.warning("stripe_event_ignored", event_id=event.id, type=event.type, reason=ignored)
    elif row_id is not None:
        _enqueue(row_id)
    return Response(status=204)


def _enqueue(row_id: int) -> None:
    try:
        enqueue(_metering().runtime.queue_redis, JOB, row_id)
    except RedisError as error:
        log.warning("stripe_event_not_enqueued", row=row_id, detail=str(error))  # the sweep finds it


def _metering() -> Metering:
    metering: Metering = current_app.extensions["metering"]
    return metering
