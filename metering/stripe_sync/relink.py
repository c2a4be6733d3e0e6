"""Which of Stripe's customers one of ours is, and how a wrong id is put right.

Always holds: a customer whose usage Stripe has counted keeps its id, because another one would split its bill. What was
reported under an id that Stripe does not know was counted nowhere, although Stripe accepts it: it is owed again.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from metering.errors import Conflict
from metering.models import AuditEntry, Customer, LedgerEntry, StripeMeter, StripeReport
from metering.settings import Settings
from metering.stripe_sync.gateway import NoSuchCustomer, StripeGateway
from metering.stripe_sync.ledger import hold_writers
from metering.stripe_sync.reporting import gateway_for
from metering.stripe_sync.sql import statement

MINUTE = timedelta(minutes=1)


def relink(
    session: Session, settings: Settings, customer: Customer, stripe_id: str | None, *, now: datetime, actor: str
) -> None:
    """Say which customer of Stripe's a locked customer of ours is, or none; in the caller's transaction, audited.

    What waits under another id, or was reported under one that Stripe does not know, is owed again. Stripe is asked
    only where something was sent under another id.

    Raises:
        Conflict: usage was reported under the id that the customer has; or nobody can tell, with METERING_STRIPE=off.
        StripeFailed, ConfigurationError: Stripe could not be asked.
    """
    hold_writers(session)
    former, owed_again = customer.stripe_customer_id, 0
    if others := _other_ids(session, customer, stripe_id):
        if settings.stripe == "off":
            raise Conflict(
                f"there are reports of this customer under {others[0]}, and with METERING_STRIPE=off Stripe cannot be "
                "asked whether it counted them",
                customer=customer.key,
            )
        gateway = gateway_for(settings)
        for other in others:
            owed_again += _take_back(session, gateway, customer, other, now)
    if former == stripe_id and not owed_again:
        return
    customer.stripe_customer_id = stripe_id
    detail = {"was": former, "is": stripe_id, "rows_owed_again": owed_again}
    session.add(AuditEntry(at=now, actor=actor, action="stripe.link", customer_id=customer.id, detail=detail))
    session.flush()


def _other_ids(session: Session, customer: Customer, stripe_id: str | None) -> Sequence[str]:
    """The ids, besides the one it is to have, under which it has report rows that stand."""
    query = (
        select(StripeReport.stripe_customer_id)
        .where(StripeReport.customer_id == customer.id, StripeReport.state.not_in(("written_off", "withdrawn")))
        .distinct()
        .order_by(StripeReport.stripe_customer_id)
    )
    return [found for found in session.scalars(query) if found != stripe_id]


def _take_back(session: Session, gateway: StripeGateway, customer: Customer, other: str, now: datetime) -> int:
    """Have owed again what this account was told of a customer under another id; how many rows that were."""
    if _counted(session, gateway, customer, other):
        if other != customer.stripe_customer_id:
            return 0  # it was the customer's at some time, by hand: that bill is Stripe's
        raise Conflict(
            f"usage of this customer was reported under {other}, which Stripe knows: another id would split its bill",
            customer=customer.key,
        )
    entries = select(LedgerEntry).where(LedgerEntry.account == gateway.account, LedgerEntry.customer_id == customer.id)
    session.execute(entries.order_by(*LedgerEntry.__table__.primary_key).with_for_update())
    keys = {
        "account": gateway.account,
        "customer_id": customer.id,
        "stripe_customer_id": other,
        "meter_id": None,
        "now": now,
        "why": f"{other} was the wrong customer: owed again",
    }
    return len(session.execute(statement("take_back"), keys).all())


def _counted(session: Session, gateway: StripeGateway, customer: Customer, other: str) -> bool:
    """Whether Stripe may have counted anything under this id. Raises StripeFailed."""
    sent = (
        select(StripeMeter.stripe_id, StripeReport.timestamp)
        .join(
            StripeMeter, (StripeMeter.account == StripeReport.account) & (StripeMeter.meter_id == StripeReport.meter_id)
        )
        .where(
            StripeReport.account == gateway.account,
            StripeReport.customer_id == customer.id,
            StripeReport.stripe_customer_id == other,
            or_(StripeReport.state == "accepted", StripeReport.first_sent_at.is_not(None)),
        )
        .limit(1)
    )
    row = session.execute(sent).one_or_none()
    if row is None:
        return False
    start = row.timestamp.replace(second=0, microsecond=0)
    try:
        gateway.summary(row.stripe_id, other, start, start + MINUTE)
    except NoSuchCustomer:
        return False
    return True
