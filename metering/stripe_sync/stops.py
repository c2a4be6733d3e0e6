"""Keys that Stripe refuses. Nothing is sent with one until an operator sets another key, or says `resume` after giving
this one what it lacks. Rows are kept, and none of them becomes doubtful meanwhile.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from metering.models import AuditEntry, StripeStop
from metering.settings import Settings


@dataclass(frozen=True, slots=True)
class Stopped:
    """`reason` is Stripe's own words, in which it masks the key."""

    reason: str
    since: datetime

    @property
    def message(self) -> str:
        return (
            f"Stripe refuses the key since {self.since:%Y-%m-%d %H:%M} UTC: {self.reason}; set a good one, or mend its "
            "permissions and run `flask metering stripe resume`"
        )


def stop_of(session: Session, settings: Settings) -> Stopped | None:
    """Whether the key of these settings was refused."""
    row = session.get(StripeStop, digest_of(settings), populate_existing=True)
    return None if row is None else Stopped(row.reason, row.since)


def note_stop(session: Session, settings: Settings, reason: str, now: datetime) -> None:
    """The first refusal stays."""
    values = {"key_digest": digest_of(settings), "reason": reason, "since": now}
    session.execute(insert(StripeStop).values(values).on_conflict_do_nothing())


def resume(session: Session, settings: Settings, *, now: datetime, actor: str) -> bool:
    """Try this key again; False where it was not stopped."""
    stopped = stop_of(session, settings)
    if stopped is None:
        return False
    session.execute(delete(StripeStop).where(StripeStop.key_digest == digest_of(settings)))
    session.add(AuditEntry(at=now, actor=actor, action="stripe.resume", detail={"reason": stopped.reason}))
    return True


def digest_of(settings: Settings) -> str:
    """Tells one key from another and gives none away: keys are long and random, and this is a part of a digest."""
    key = settings.stripe_api_key.get_secret_value() if settings.stripe_api_key else ""
    return hashlib.sha256(f"metering {key}".encode()).hexdigest()[:24]
