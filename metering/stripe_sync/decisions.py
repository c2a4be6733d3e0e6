"""What operators decide on rows that are parked: each decision is audited, and the books agree afterwards."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.errors import Conflict, NotFound
from metering.models import AuditEntry, MeterRow, StripeReport
from metering.stripe_sync.ledger import DOUBTFUL_AFTER, keys_of, lock_hour_of, withdraw, write_reports


def retry(session: Session, report_id: int, *, now: datetime, actor: str) -> None:
    """Let a parked row be tried again: after what Stripe refused it for was put right.

    What Stripe is known not to have counted is replaced by a row with an identifier of its own: Stripe may have kept
    that of a row which it refused after taking it in. What may have been counted is sent again under the same
    identifier; where Stripe may have forgotten that, its summary is read again instead.

    Raises:
        NotFound: there is no such row.
        Conflict: it is not parked.
    """
    report = _lock_parked(session, report_id)
    _audit(session, report, "stripe.retry", now, actor, note=report.fault or "")
    if report.first_sent_at is None:
        withdraw(session, report, now, f"{report.fault}; tried again by {actor}")
        return
    in_doubt = now - report.first_sent_at >= DOUBTFUL_AFTER
    report.state = "doubtful" if in_doubt else "pending"
    report.next_try_at, report.settled_at = now, None
    session.flush()


def parked_of(session: Session, meter: str) -> tuple[int, ...]:
    """The parked rows of a meter of ours, oldest first. Raises NotFound where there is no such meter."""
    meter_id = session.scalar(select(MeterRow.id).where(MeterRow.key == meter))
    if meter_id is None:
        raise NotFound(f"there is no meter {meter}", meter=meter)
    query = select(StripeReport.id).where(StripeReport.state == "parked", StripeReport.meter_id == meter_id)
    return tuple(session.scalars(query.order_by(StripeReport.id)))


def write_off(session: Session, report_id: int, *, note: str, now: datetime, actor: str) -> None:
    """Decide that Stripe will not be told of a parked row by us.

    Its value stays in `reported`: were it taken out, the hour would owe it again and a new row would be made. Usage
    that comes later in the same hour is owed as ever.

    Raises:
        NotFound: there is no such row.
        Conflict: it is not parked, or there is no note.
    """
    report = _lock_parked(session, report_id, note)
    report.state, report.settled_at = "written_off", now
    _audit(session, report, "stripe.write_off", now, actor, note=note.strip())
    session.flush()


def settle(session: Session, report_id: int, *, counted: bool, note: str, now: datetime, actor: str) -> None:
    """Decide whether Stripe has counted a parked row: then it is accepted, else a new row takes its place.

    Raises:
        NotFound: there is no such row.
        Conflict: it is not parked, or there is no note.
    """
    report = _lock_parked(session, report_id, note)
    _audit(session, report, "stripe.counted" if counted else "stripe.not_counted", now, actor, note=note.strip())
    if counted:
        report.state, report.settled_at, report.fault = "accepted", now, f"{actor}: {note.strip()}"
        session.flush()
        write_reports(session, keys_of(report), now)
    else:
        withdraw(session, report, now, f"{actor}: {note.strip()}")


def _lock_parked(session: Session, report_id: int, note: str | None = None) -> StripeReport:
    if note is not None and not note.strip():
        raise Conflict("this needs a note that says why", report=report_id)
    report = lock_hour_of(session, report_id)
    if report is None:
        raise NotFound(f"there is no report row {report_id}", report=report_id)
    if report.state != "parked":
        raise Conflict(f"the report row {report_id} is {report.state}, not parked", report=report_id)
    return report


def _audit(session: Session, report: StripeReport, action: str, now: datetime, actor: str, *, note: str) -> None:
    detail = {"report": report.id, "identifier": report.identifier, "value": str(report.value), "note": note}
    session.add(AuditEntry(at=now, actor=actor, action=action, customer_id=report.customer_id, detail=detail))
