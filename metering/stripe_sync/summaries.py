"""Stripe's event summaries by UTC hour. Source: Stripe's API reference, "Meter Event Summary"."""

from datetime import UTC, datetime
from decimal import Decimal

import stripe

from metering.stripe_sync.gateway import PAGE, StripeFailed, outcome_of


def hourly_summaries(
    client: stripe.StripeClient, meter: str, customer: str, start: datetime, end: datetime
) -> dict[datetime, Decimal]:
    """What Stripe has counted in each hour of `[start, end)`, whole hours; an hour without usage may be missing.

    Raises StripeFailed.
    """
    try:
        found = client.v1.billing.meters.event_summaries.list(
            meter,
            {
                "customer": customer,
                "start_time": int(start.timestamp()),
                "end_time": int(end.timestamp()),
                "value_grouping_window": "hour",
                "limit": PAGE,
            },
        )
        # repr is the shortest decimal that reads back as this float: what Stripe wrote.
        return {
            datetime.fromtimestamp(part.start_time, UTC): Decimal(repr(part.aggregated_value))
            for part in found.auto_paging_iter()
        }
    except stripe.StripeError as error:
        raise StripeFailed(outcome_of(error)) from error
