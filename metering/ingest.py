"""Events that come in batches: from CloudEvents to the intake, all of a request or nothing of it.

Always holds: everything is checked before anything is recorded, and what nobody counts yet is held in the same step.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from metering.clock import to_micros
from metering.errors import (
    IntakeUnavailable,
    InvalidUsage,
    UnknownCustomer,
)
from metering.intake.cloudevents import CloudEvent, EventFault
from metering.intake.event import properties_text
from metering.intake.matching import InvalidEvents, Placed, place
from metering.intake.values import Caller
from metering.models import Customer
from metering.recording import conflict, parts_of, record
from metering.service import FUTURE_SECONDS, Metering
from metering.store import held


def ingest(
    metering: Metering, events: Sequence[CloudEvent], faults: Sequence[EventFault], caller: Caller, *, enforce: bool
) -> None:
    """Record the events of one request, durably, before returning. `faults` are what reading it has found already.

    Raises:
        InvalidEvents: what is wrong with each event that is; nothing was recorded.
        UsageConflict: identities that are taken by other payloads; nothing was recorded.
        LimitExceeded, NotPermitted: with `enforce`, a hard limit would be passed, or the customer is suspended;
            nothing was recorded.
        IntakeUnavailable: unknown what was recorded; the same request may be sent again.
    """
    now = metering.clock()
    metering.runtime.refresh_meters()
    known, unknown, faults = _match(metering, events, list(faults), caller, now)
    if not _holds(metering, caller):
        faults += [_unknown_type(one) for one in unknown]
    if faults:
        raise InvalidEvents([*faults, *_of_strangers(metering, known, caller)])
    if enforce and len({one.subject for one in events}) > 1:
        raise InvalidEvents([EventFault(events[0].index, "/subject", "with enforce a request is of one customer")])
    try:
        _record(metering, known, unknown, caller, now, enforce)
    except IntakeUnavailable:
        if metering.settings.on_outage == "deny":
            raise
        with _held(metering, unknown, caller, now):
            metering.keep_for_later([one.event for one in known])


def _match(
    metering: Metering, events: Sequence[CloudEvent], faults: list[EventFault], caller: Caller, now: datetime
) -> tuple[list[Placed], list[CloudEvent], list[EventFault]]:
    """The usage events that the meters make of these, and those of a type that no meter counts."""
    meters = metering.catalog.meters_by_event_type
    admitted = to_micros(now)
    earliest = to_micros(now - timedelta(seconds=metering.settings.lateness_seconds))
    latest = admitted + FUTURE_SECONDS * 1_000_000
    known: list[Placed] = []
    unknown: list[CloudEvent] = []
    for one in events:
        if one.time is not None and not earliest <= one.time <= latest:
            faults.append(EventFault(one.index, "/time", _time_fault(metering, one.time > latest)))
        elif not caller.is_operator and one.subject != caller.customer:
            faults.append(_unknown_subject(one))
        elif one.type not in meters:
            unknown.append(one)
            faults += _unstorable(one)
        else:
            try:
                known += place(one, metering.catalog, admitted, caller.key_id)
            except InvalidEvents as wrong:
                faults += [EventFault(**fault) for fault in wrong.facts["errors"]]
    return known, unknown, faults


# -- recording ---------------------------------------------------------------------------------------------------


def _record(
    metering: Metering,
    known: list[Placed],
    unknown: list[CloudEvent],
    caller: Caller,
    now: datetime,
    enforce: bool,
) -> None:
    parts = parts_of(metering, known)
    if len(parts) == 1 and not unknown:
        with suppress(UnknownCustomer):  # then more has to be asked before anything can be said
            record(metering, parts, now, enforce=enforce)
            return
    strangers = _strangers(metering, {one.event.customer for one in known})
    if strangers:
        apart = [one for one in known if _is_first_of(one, strangers)]
        if not _holds(metering, caller):
            raise InvalidEvents(_unknown_subject(one.origin) for one in apart)
        unknown = [*unknown, *(one.origin for one in apart)]
        parts = parts_of(metering, [one for one in known if one.event.customer not in strangers])
    with _held(metering, unknown, caller, now):
        record(metering, parts, now, enforce=enforce)


# -- who is not known --------------------------------------------------------------------------------------------


def _strangers(metering: Metering, customers: set[str]) -> set[str]:
    """Those that are no customers. One that Redis does not know yet is sent to it."""
    missing = customers - metering.runtime.intake.known(customers)
    if not missing:
        return set()
    try:
        with metering.runtime.transaction() as session:
            stored = set(session.scalars(select(Customer.key).where(Customer.key.in_(missing))))
    except SQLAlchemyError as error:
        raise IntakeUnavailable("whether these customers exist is not known while PostgreSQL is away") from error
    for customer in stored:
        metering.refresh(customer)
    return missing - stored


def _of_strangers(metering: Metering, known: Sequence[Placed], caller: Caller) -> list[EventFault]:
    """What is wrong with the subjects of a request that is refused anyway; nothing where nobody can tell."""
    if _holds(metering, caller):
        return []
    with suppress(IntakeUnavailable):
        strangers = _strangers(metering, {one.event.customer for one in known})
        return [_unknown_subject(one.origin) for one in known if _is_first_of(one, strangers)]
    return []


def _is_first_of(one: Placed, customers: set[str]) -> bool:
    """Whether it stands for an event of one of these customers: each event is named once, however many count it."""
    return one.event.customer in customers and one.is_first


def _holds(metering: Metering, caller: Caller) -> bool:
    """Whether events of unknown customers and types are kept until somebody knows them: only what operators send."""
    return metering.settings.unknown_subject == "hold" and caller.is_operator


@contextmanager
def _held(metering: Metering, events: Sequence[CloudEvent], caller: Caller, now: datetime) -> Iterator[None]:
    """Hold these events if the block succeeds. Raises UsageConflict where one that is held already says otherwise."""
    if not events:
        yield
        return
    try:
        with metering.runtime.transaction() as session:
            held.hold(session, events, key_id=caller.key_id, now=now)
            taken = held.conflicting(session, events)
            if taken:
                raise conflict(taken)
            yield
    except SQLAlchemyError as error:
        raise IntakeUnavailable("PostgreSQL is away, which has to hold some of the events") from error


def _unstorable(one: CloudEvent) -> Iterator[EventFault]:
    """What is wrong with the data of an event that no meter looks at yet."""
    try:
        properties_text(one.data)
    except InvalidUsage as wrong:
        yield EventFault(one.index, "/data", wrong.message)


def _unknown_type(one: CloudEvent) -> EventFault:
    return EventFault(one.index, "/type", f"no meter counts events of the type {one.type!r}")


def _unknown_subject(one: CloudEvent) -> EventFault:
    return EventFault(one.index, "/subject", f"there is no customer {one.subject!r}")


def _time_fault(metering: Metering, ahead: bool) -> str:
    if ahead:
        return f"lies more than {FUTURE_SECONDS // 60} minutes ahead"
    return f"lies more than {metering.settings.lateness_seconds / 86400:g} days back"
