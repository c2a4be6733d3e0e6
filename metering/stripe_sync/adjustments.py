"""Taking a meter event back at Stripe. Source: Stripe's API reference, "Meter Event Adjustment"."""

import stripe

from metering.stripe_sync.gateway import Fate, Outcome, outcome_of


def cancel_event(client: stripe.StripeClient, event_name: str, identifier: str, *, idempotency_key: str) -> Outcome:
    """Cancel one event, within 24 hours of its receipt. Never raises.

    Doing it twice takes nothing back twice: an event is cancelled or it is not.
    """
    try:
        client.v1.billing.meter_event_adjustments.create(
            {"event_name": event_name, "type": "cancel", "cancel": {"identifier": identifier}},
            {"idempotency_key": idempotency_key},
        )
    except stripe.StripeError as error:
        return outcome_of(error)
    return Outcome(Fate.ACCEPTED)
