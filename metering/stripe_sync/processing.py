"""What each of Stripe's events makes us do: fetch what it is about, and follow that.

Always holds: nothing of an event's content is used but its id, its type and the id of its object; what is done and that
it is done are committed together; an event that fails holds up no other.
"""

from datetime import datetime

import structlog
from sqlalchemy.orm import Session

from metering.catalog import Catalog
from metering.errors import ConfigurationError, MeteringError
from metering.failpoints import visit
from metering.models import StripeEvent
from metering.runtime import Runtime
from metering.stripe_sync import inbound, meter_errors
from metering.stripe_sync.asking import asking
from metering.stripe_sync.gateway import StripeApi
from metering.stripe_sync.invoices import mirror_invoice
from metering.stripe_sync.mirror import mirror
from metering.stripe_sync.reporting import gateway_for
from metering.stripe_sync.webhooks import mode_of

CHECKOUT = "checkout.session.completed"
SUBSCRIPTION = "customer.subscription."
INVOICE = "invoice."
TO_TELL = ("billing.alert.triggered", "billing.meter.deactivated")
"""Events that an operator should hear of, and that change nothing here."""

AT_ONCE = 200

log = structlog.get_logger("metering.stripe")


def process_due(runtime: Runtime) -> int:
    """Process the events whose turn it is: those that nobody was told of, and those that failed before; how many.

    Raises ConfigurationError, StripeFailed: where Stripe cannot be asked at all, everything waits.
    """
    if runtime.settings.stripe == "off":
        return 0
    with runtime.transaction() as session:
        inbound.forget_settled(session, runtime.clock())
        waiting = inbound.due(session, mode_of(runtime.settings), runtime.clock(), AT_ONCE)
    return sum(process(runtime, row_id) for row_id in waiting)


def process(runtime: Runtime, row_id: int) -> bool:
    """Process one event, if it is its turn and nobody else does; whether it is settled now."""
    if runtime.settings.stripe == "off":
        return False
    with runtime.transaction() as session:
        event = inbound.claim(session, row_id, runtime.clock())
    if event is None:
        return False
    visit("stripe.event_claimed")
    try:
        with runtime.transaction() as session:
            said = follow_event(session, gateway_for(runtime.settings), runtime.catalog, event, now=runtime.clock())
            inbound.settle(session, row_id, runtime.clock(), said)
            visit("stripe.event_followed")
        return True
    except MeteringError as error:
        _note_failure(runtime, event, error.message)
        if isinstance(error, ConfigurationError):
            raise
    except Exception as error:  # a mistake of ours about one event must not keep the others from being processed
        log.exception("stripe_event_failed", event_id=event.event_id, type=event.type)
        _note_failure(runtime, event, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    return False


def mirror_now(runtime: Runtime, stripe_id: str) -> None:
    """Follow a subscription that we have just changed. Where that fails, Stripe's message will do it."""
    try:
        with runtime.transaction() as session:
            mirror(session, gateway_for(runtime.settings), runtime.catalog, stripe_id, now=runtime.clock())
    except MeteringError as error:
        log.warning("stripe_mirror_waits", subscription=stripe_id, reason=error.message)


def follow_event(
    session: Session, api: StripeApi, catalog: Catalog, event: StripeEvent, *, now: datetime
) -> inbound.Said:
    """Do what an event asks for, in the caller's transaction; what to note of it.

    Raises StripeFailed, PlanUnknown, Conflict.
    """
    subject = event.object_id
    match event.type:
        case kind if kind in meter_errors.TYPES:
            return inbound.Said(meter_errors.follow_error_report(session, api, event.event_id, now=now))
        case kind if kind in TO_TELL:
            log.warning("stripe_tells", type=kind, object=subject)
            return inbound.Said("for the operator to know")
        case kind if kind == CHECKOUT and subject:
            return _unless_ignored(_follow_checkout(session, api, catalog, subject, now=now))
        case kind if kind.startswith(SUBSCRIPTION) and subject:
            return _unless_ignored(mirror(session, api, catalog, subject, now=now))
        case kind if kind.startswith(INVOICE) and subject:
            return _unless_ignored(mirror_invoice(session, api, subject, now=now))
    return inbound.Said("nothing follows from it", ignored=True)


def _follow_checkout(
    session: Session, api: StripeApi, catalog: Catalog, stripe_id: str, *, now: datetime
) -> str | None:
    with asking():
        checkout = api.client.v1.checkout.sessions.retrieve(stripe_id)
    subscription = checkout.subscription
    if subscription is None:
        return "it is for no subscription"
    return mirror(session, api, catalog, subscription if isinstance(subscription, str) else subscription.id, now=now)


def _unless_ignored(why_not: str | None) -> inbound.Said:
    return inbound.Said(why_not, ignored=why_not is not None)


def _note_failure(runtime: Runtime, event: StripeEvent, reason: str) -> None:
    with runtime.transaction() as session:
        given_up = inbound.fail(session, event.id, reason, runtime.clock())
    log.warning("stripe_event_waits", event_id=event.event_id, type=event.type, reason=reason, given_up=given_up)
