"""Files and the storage level, kept in agreement.

Always holds: the change of the level commits with the file, as a row of the inbox, so neither is ever without the
other, wherever a process dies; the quota for it is held before, so a file that would pass the limit is not written;
writers of one name take turns, so none counts against a size that another has changed meanwhile.
"""

from contextlib import suppress

from sqlalchemy import select, text
from sqlalchemy.orm import Session, undefer

from metering.clock import to_micros
from metering.errors import IntakeUnavailable, InvalidUsage
from metering.failpoints import visit
from metering.ids import new_id
from metering.intake.event import UsageEvent, make_event
from metering.intake.values import Admission, Ask, Replay
from metering.models import Customer, SampleFile
from metering.service import Metering
from metering.store import inbox

METER = "storage_bytes"
SOURCE = "sample-files"


def find(session: Session, customer: Customer, name: str) -> SampleFile | None:
    query = select(SampleFile).where(SampleFile.customer_id == customer.id, SampleFile.name == name)
    return session.scalars(query.options(undefer(SampleFile.content))).one_or_none()


def write(metering: Metering, session: Session, customer: Customer, name: str, content: bytes) -> bool:
    """Write a file, and commit; whether it is a new one.

    Raises:
        LimitExceeded: the storage would pass its limit; the old file stays.
        IntakeUnavailable: nobody can tell, and METERING_ON_OUTAGE is deny.
    """
    _take_turn(session, customer, name)
    old = session.get(SampleFile, (customer.id, name))
    change = len(content) - (old.size if old else 0)
    file = old or SampleFile(customer_id=customer.id, name=name)
    file.size, file.content, file.written_at = len(content), content, metering.clock()
    session.add(file)
    _commit(metering, session, customer, name, change)
    return old is None


def remove(metering: Metering, session: Session, customer: Customer, name: str) -> bool:
    """Remove a file, and commit; False when there is none."""
    _take_turn(session, customer, name)
    file = session.get(SampleFile, (customer.id, name))
    if file is None:
        return False
    session.delete(file)
    _commit(metering, session, customer, name, -file.size)
    return True


def _take_turn(session: Session, customer: Customer, name: str) -> None:
    """Wait for whoever writes this name now; until the transaction ends nobody else does. There may be no row yet."""
    lock = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, :customer))")
    session.execute(lock, {"name": name, "customer": customer.id})


def _commit(metering: Metering, session: Session, customer: Customer, name: str, change: int) -> None:
    if not change:
        session.commit()
        return
    intake = metering.runtime.intake
    held = _hold(metering, customer.key, change) if change > 0 else None
    event = make_event(
        metering.catalog.meter(METER),
        customer=customer.key,
        quantity=change,
        source=SOURCE,
        id=new_id(),
        admitted=held.admitted if held else to_micros(metering.clock()),
        properties={"file": name},
    )
    try:
        inbox.put(session, intake, [event])
        session.commit()
    except BaseException:
        if held:
            with suppress(IntakeUnavailable):
                intake.release(held)
        raise
    visit("sample.file_committed")
    _count_now(metering, event, held)


def _hold(metering: Metering, customer: str, units: int) -> Admission | None:
    """The quota, until the change is counted. None: on trust, while Redis is away. Raises LimitExceeded."""
    intake = metering.runtime.intake
    ask = Ask(reserve={METER: units}, customer=customer, is_call=False)
    try:
        held = intake.reserve(ask, rid=new_id(), partition=intake.partition(customer), now=metering.clock())
    except IntakeUnavailable:
        if metering.settings.on_outage == "deny":
            raise
        return None
    assert not isinstance(held, Replay)  # only an Idempotency-Key is ever replayed
    return held


def _count_now(metering: Metering, event: UsageEvent, held: Admission | None) -> None:
    """Count the change at once. Where that fails, the inbox does it: it holds the same event, and it counts once."""
    intake, now = metering.runtime.intake, metering.clock()
    with suppress(IntakeUnavailable, InvalidUsage):
        if held:
            intake.settle(held, [event], now=now)
        else:
            metering.send(event, now)
