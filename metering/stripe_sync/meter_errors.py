"""What Stripe found wrong with meter events after it had taken them in: reports with counts and a few examples.

Always holds: a row that a report names is parked with Stripe's reason, also where it was accepted before. Rows that it
only counts stay as they are: the comparison with Stripe's summaries finds those.
Source: https://docs.stripe.com/billing/subscriptions/usage-based/recording-usage-api#handle-meter-event-errors.
"""

from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import text
from sqlalchemy.orm import Session

from metering.stripe_sync.asking import asking
from metering.stripe_sync.gateway import StripeApi

TYPES = ("v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found")

log = structlog.get_logger("metering.stripe")


def follow_error_report(session: Session, api: StripeApi, event_id: str, *, now: datetime) -> str:
    """Fetch a report and park the rows that it names; what an operator should know of it. The caller commits.

    Raises StripeFailed.
    """
    with asking():
        event: Any = api.client.v2.core.events.retrieve(event_id)
    reasons = reasons_in(event.data)
    parked = park_named(session, api.account, reasons, now=now)
    counts = ", ".join(f"{one.code} × {one.error_count}" for one in event.data.reason.error_types)
    said = f"{event.data.reason.error_count} meter events were refused ({counts}); {parked} rows parked"
    log.error("stripe_meter_errors", event_id=event_id, summary=event.data.developer_message_summary, parked=parked)
    return said


def reasons_in(data: Any) -> dict[str, str]:
    """By identifier, what was wrong with the meter events that a report gives as examples."""
    return {
        sample.request.identifier: f"{one.code}: {sample.error_message}"
        for one in data.reason.error_types
        for sample in one.sample_errors
    }


def park_named(session: Session, account: str, reasons: dict[str, str], *, now: datetime) -> int:
    """Park the rows with these identifiers, of which Stripe says that it did not count them; how many. Those that were
    decided on by hand stay as they are.
    """
    parked = session.execute(
        text("""
            UPDATE stripe_reports r
            SET state = 'parked', settled_at = :now, fault = named.fault, first_sent_at = NULL
            FROM unnest(CAST(:identifiers AS text[]), CAST(:faults AS text[])) AS named (identifier, fault)
            WHERE r.account = :account AND r.identifier = named.identifier
                AND r.state IN ('pending', 'accepted', 'doubtful')
            RETURNING r.id
        """),
        {
            "account": account,
            "now": now,
            "identifiers": list(reasons),
            "faults": [f"refused after it was taken in: {reason}" for reason in reasons.values()],
        },
    )
    return len(parked.all())
