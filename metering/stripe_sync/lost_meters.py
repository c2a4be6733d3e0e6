"""A meter that is gone at Stripe, as when the data of a sandbox was deleted: what was counted there is gone with it.

Always holds: only what Stripe says it does not know is forgotten; rows that were written off, or seen in a summary,
stay.
"""

from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from metering.errors import Conflict, NotFound
from metering.models import AuditEntry, LedgerEntry, StripeMeter
from metering.stripe_sync.gateway import NoSuchMeter, StripeGateway
from metering.stripe_sync.ledger import hold_writers
from metering.stripe_sync.meters import links_of
from metering.stripe_sync.sql import statement


def forget_meter(
    session: Session, gateway: StripeGateway, key: str, *, note: str, now: datetime, actor: str
) -> tuple[str, int]:
    """Take the link of a lost meter away, so that all usage of periods that are not closed is owed to the next one; the
    lost meter's id, and how many rows are withdrawn. The caller commits.

    Raises:
        NotFound: it has no link. Conflict: Stripe knows the meter, or there is no note. StripeFailed.
    """
    if not note.strip():
        raise Conflict("this needs a note that says why", meter=key)
    hold_writers(session)
    link = links_of(session, gateway.account).get(key)
    if link is None:
        raise NotFound(f"{key} is not linked to a Stripe meter in {gateway.account}", meter=key)
    _refuse_known(gateway, key, link.stripe_id)
    entries = select(LedgerEntry).where(LedgerEntry.account == link.account, LedgerEntry.meter_id == link.meter_id)
    session.execute(entries.order_by(*LedgerEntry.__table__.primary_key).with_for_update())
    keys = {
        "account": link.account,
        "customer_id": None,
        "stripe_customer_id": None,
        "meter_id": link.meter_id,
        "now": now,
        "why": f"{link.stripe_id} is gone at Stripe: owed again",
    }
    lost, withdrawn = link.stripe_id, len(session.execute(statement("take_back"), keys).all())
    session.execute(delete(StripeMeter).where(StripeMeter.account == link.account, StripeMeter.stripe_id == lost))
    detail = {"account": link.account, "meter": key, "was": lost, "rows_owed_again": withdrawn, "note": note.strip()}
    session.add(AuditEntry(at=now, actor=actor, action="stripe.forget_meter", detail=detail))
    session.flush()
    return lost, withdrawn


def _refuse_known(gateway: StripeGateway, key: str, id: str) -> None:
    try:
        gateway.meter(id)
    except NoSuchMeter:
        return
    raise Conflict(f"Stripe knows the meter {id}: what it counted stays with it", meter=key)
