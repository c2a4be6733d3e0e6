"""One of everything that operators decide on, for a customer of the world."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

from rq import Queue
from rq.job import Job, JobStatus
from sqlalchemy import select
from sqlalchemy.orm import Session

from metering import exact_json
from metering.models import (
    Customer,
    HeldEvent,
    LedgerEntry,
    MeterRow,
    Reconciliation,
    SetAside,
    StripeEvent,
    StripeReport,
    Verification,
)
from metering.queues import QUEUE
from tests.factories.world import World


def sow_console(world: World) -> dict[str, Any]:
    """Something of each kind, of the first customer there is; values for the parameters that name them."""
    customer = world.session.scalars(select(Customer).order_by(Customer.id)).first()
    assert customer is not None
    event = StripeEvent(event_id="evt_1", mode="standin", livemode=False, type="invoice.paid", thin=False)
    event.happened_at = event.received_at = event.next_try_at = world.now
    event.state, event.reason, event.attempts = "failed", "Stripe was away", 24
    run = Verification(asked_by="user:ada@example.org", asked_at=world.now, total=12, checks=[])
    comparison = Reconciliation(account="standin", kind="daily", started_at=world.now)
    rows = [
        set_aside(world, customer),
        held_event(world),
        parked_row(world, customer),
        event,
        run,
        comparison,
    ]
    world.session.add_all(rows)
    world.session.commit()
    message, held, report, *_ = rows
    ids = {"message_id": message.id, "held_id": held.id, "report_id": report.id, "stripe_event": event.event_id}
    return ids | {"run_id": run.id, "comparison_id": comparison.id, "job_id": failed_job(world)}


def set_aside(world: World, customer: Customer, *, quantity: object = 5, reason: str = "unknown_meter") -> SetAside:
    """A message of that customer's that could not become an event."""
    event = world.event(customer.key, "messages", quantity, properties={"file": "a.txt"})
    return SetAside(
        partition=customer.partition,
        position=1,
        item=0,
        customer=customer.key,
        decision="0||0|",
        message=event.message(),
        reason=reason,
        detail="",
        created_at=world.now,
    )


def held_event(world: World, subject: str = "newcomer") -> HeldEvent:
    said = exact_json.write(["e-1", "mailer", None, {"count": 3}]).decode()
    return HeldEvent(digest=uuid4(), payload=uuid4(), subject=subject, type="mail", event=said, received_at=world.now)


def parked_row(
    world: World, customer: Customer, *, key: str = "messages", value: int = 8, hours_ago: int = 2
) -> StripeReport:
    """A row that Stripe refused, with its ledger entry, which is stored here."""
    session: Session = world.session
    meter = session.scalars(select(MeterRow.id).where(MeterRow.key == key)).one()
    hour = world.now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=hours_ago)
    (period, *_) = world.periods(customer.key)
    place = {"account": "standin", "customer_id": customer.id, "meter_id": meter, "period_id": period.id, "hour": hour}
    session.add(LedgerEntry(**place, reported=value, revision=1))
    session.flush()
    return StripeReport(
        **place,
        revision=1,
        part=0,
        event_name=key,
        stripe_customer_id="cus_1",
        value=value,
        timestamp=hour,
        identifier=f"row-{customer.key}-{hours_ago}",
        state="parked",
        attempts=1,
        next_try_at=world.now,
        settled_at=world.now,
        fault="meter_event_customer_not_found: no such customer",
        created_at=world.now,
    )


def failed_job(world: World) -> str:
    """A job of RQ's that failed; its id."""
    queue = Queue(QUEUE, connection=world.redis)
    job = Job.create("metering.jobs.make_periods", connection=world.redis, origin=QUEUE, status=JobStatus.FAILED)
    job.save()
    queue.failed_job_registry.add(job, ttl=3600, exc_string="Traceback\n  somewhere\nValueError: it did not work")
    return job.id
