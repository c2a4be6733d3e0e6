"""Events that come in batches: from CloudEvents to the intake, all of a request or nothing of it.

Always holds: everything is checked before anything is recorded. What fits into one script is recorded by one; a larger
request is looked at in all its parts first and then recorded part by part, so only a process or a Redis that dies in
between leaves a part of it behind, and sending the request again completes it: what was recorded counts once.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from metering.clock import to_micros
from metering.errors import (
    IntakeUnavailable,
    InvalidUsage,
    LimitExceeded,
    UnknownCustomer,
    UsageConflict,
)
from metering.failpoints import visit
from metering.ids import new_id
from metering.intake.admission import MAX_EVENTS_PER_SCRIPT
from metering.intake.cloudevents import CloudEvent, EventFault
from metering.intake.event import UsageEvent
from metering.intake.matching import InvalidEvents, Placed, place, value_pointer
from metering.intake.refusals import StaleState
from metering.intake.values import Admission, Ask, Caller, Moved
from metering.models import Customer
from metering.service import FUTURE_SECONDS, Metering
from metering.store import held

MAX_PLAIN_UNITS = 2**32

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Part:
    """What one script records."""

    partition: int
    placed: Sequence[Placed]

    @property
    def events(self) -> list[UsageEvent]:
        return [one.event for one in self.placed]


def ingest(
    metering: Metering, events: Sequence[CloudEvent], faults: Sequence[EventFault], caller: Caller, *, enforce: bool
) -> None:
    """Record the events of one request, durably, before returning. `faults` are what reading it has found already.

    Raises:
        InvalidEvents: what is wrong with each event that is; nothing was recorded.
        UsageConflict: identities that are taken by other payloads, by `items`; nothing was recorded.
        LimitExceeded: with `enforce`, a hard limit would be passed; nothing was recorded.
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
        metering.keep_for_later([one.event for one in known])
        _hold(metering, unknown, caller, now)


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
        else:
            try:
                known += place(one, meters[one.type], admitted, caller.key_id)
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
    parts = list(_parts(metering, known))
    if len(parts) == 1 and not unknown:
        with suppress(UnknownCustomer):  # then more has to be asked before anything can be said
            _write(metering, parts[0], now, enforce)
            return
    strangers = _strangers(metering, {one.event.customer for one in known})
    if strangers:
        apart = [one for one in known if _is_first_of(one, strangers)]
        if not _holds(metering, caller):
            raise InvalidEvents(_unknown_subject(one.origin) for one in apart)
        unknown = [*unknown, *(one.origin for one in apart)]
        parts = list(_parts(metering, [one for one in known if one.event.customer not in strangers]))
    if unknown:
        _check_held(metering, unknown)
    moves = _look(metering, parts, now, enforce)
    with _room(metering, moves.values() if enforce else ()):
        visit("ingest.looked")
        _write_all(metering, parts, now)
    _hold(metering, unknown, caller, now)


def _parts(metering: Metering, placed: Iterable[Placed]) -> Iterator[Part]:
    """The events of each partition, in runs that a script takes; the events of a customer stay in order."""
    intake = metering.runtime.intake
    by_partition: dict[int, list[Placed]] = {}
    for one in placed:
        by_partition.setdefault(intake.partition(one.event.customer), []).append(one)
    for partition, waiting in by_partition.items():
        for start in range(0, len(waiting), MAX_EVENTS_PER_SCRIPT):
            yield Part(partition, waiting[start : start + MAX_EVENTS_PER_SCRIPT])


def _write(metering: Metering, part: Part, now: datetime, enforce: bool = False) -> None:
    intake, settings = metering.runtime.intake, metering.settings

    def write() -> int:
        return intake.record(
            part.partition,
            part.events,
            now=now,
            identity_window_seconds=settings.identity_window_seconds,
            backlog_limit=settings.backlog_limit,
            enforce=enforce,
        )

    _translated(metering, part, write)


def _write_all(metering: Metering, parts: Sequence[Part], now: datetime) -> None:
    settings = metering.settings
    recorded = metering.runtime.intake.record_all(
        [(part.partition, part.events) for part in parts],
        now=now,
        identity_window_seconds=settings.identity_window_seconds,
        backlog_limit=settings.backlog_limit,
    )
    visit("ingest.recorded")
    for part, done in zip(parts, recorded, strict=True):
        if not done:
            _write(metering, part, now)  # for what it says, or for what it needs first


def _look(metering: Metering, parts: Sequence[Part], now: datetime, enforce: bool) -> Mapping[tuple[int, str], Moved]:
    """Look at all parts before any is recorded: whatever one of them is refused for refuses the request."""
    _check_repeated(parts)
    if not enforce and all(_is_plain(metering, part) for part in parts):
        _check_remembered(metering, parts)
        return {}
    intake, limit = metering.runtime.intake, metering.settings.backlog_limit
    moves: dict[int, dict[str, Moved]] = {}
    for part in parts:
        carried = moves.get(part.partition, {})

        def look(part: Part = part, carried: Mapping[str, Moved] = carried) -> dict[str, Moved]:
            return intake.look(part.partition, part.events, carried, now=now, backlog_limit=limit, enforce=enforce)[1]

        moves[part.partition] = _translated(metering, part, look)
    return {(partition, name): moved for partition, found in moves.items() for name, moved in found.items()}


def _check_repeated(parts: Sequence[Part]) -> None:
    """Raises UsageConflict where two events of the request bear one identity and say different things."""
    payloads: dict[str, str] = {}
    items = [
        one.origin.index
        for part in parts
        for one in part.placed
        if payloads.setdefault(one.event.digest, one.event.payload) != one.event.payload
    ]
    if items:
        raise _conflict(items)


def _is_plain(metering: Metering, part: Part) -> bool:
    """Whether nothing but a taken identity can refuse this part: no level that might fall below zero, and amounts that
    carry no counter to where it cannot count any more."""
    levels = {meter.key for meter in metering.catalog.meters.values() if meter.is_level}
    return all(one.event.meter not in levels and one.event.units <= MAX_PLAIN_UNITS for one in part.placed)


def _check_remembered(metering: Metering, parts: Sequence[Part]) -> None:
    """Raises UsageConflict; costs a fraction of a look."""
    taken = metering.runtime.intake.conflicting([(part.partition, part.events) for part in parts])
    if taken:
        places = {one.event.digest: one.origin.index for part in parts for one in part.placed}
        raise _conflict([places[event.digest] for event in taken])


@contextmanager
def _room(metering: Metering, moves: Iterable[Moved]) -> Iterator[None]:
    """Hold the quota of what several scripts will record, so that none of them is refused halfway.

    What is recorded meanwhile counts beside what is held for it: for that moment others find less room, never more.
    """
    wanted: dict[str, int] = {}
    customers = set()
    for moved in moves:
        if moved.limited and moved.units > 0:
            wanted[moved.meter] = wanted.get(moved.meter, 0) + moved.units
            customers.add(moved.customer)
    if not wanted:
        yield
        return
    intake = metering.runtime.intake
    (customer,) = customers
    ask = Ask(reserve=wanted, customer=customer, is_call=False)
    admission = intake.reserve(ask, rid=new_id(), partition=intake.partition(customer), now=metering.clock())
    assert isinstance(admission, Admission)  # only an Idempotency-Key is ever replayed
    try:
        yield
    finally:
        with suppress(IntakeUnavailable):  # then its lease runs out
            intake.release(admission)


def _translated(metering: Metering, part: Part, step: Callable[[], Answer]) -> Answer:
    """Run a step on a part, with the customer's state sent anew if need be; refusals speak of the request's events."""
    try:
        try:
            return step()
        except StaleState as stale:
            metering.refresh(str(stale.facts["customer"]))
            return step()
    except UsageConflict as conflict:
        raise _conflict([part.placed[item].origin.index for item in conflict.facts["items"]]) from None
    except LimitExceeded as refused:
        if "item" in refused.facts:
            refused.facts["index"] = part.placed[refused.facts.pop("item")].origin.index
        raise
    except InvalidUsage as wrong:
        one = part.placed[wrong.facts["item"]]
        pointer = value_pointer(metering.catalog.meter(one.event.meter))
        raise InvalidEvents([EventFault(one.origin.index, pointer, wrong.message)]) from None


def _conflict(items: Sequence[int]) -> UsageConflict:
    items = sorted(set(items))
    return UsageConflict(
        f"{len(items)} of the events bear an identity (subject, source, id) that is taken by an event that says "
        "something else; nothing was recorded",
        items=items,
    )


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
    return one.event.customer in customers and not one.event.secondary


def _holds(metering: Metering, caller: Caller) -> bool:
    """Whether events of unknown customers and types are kept until somebody knows them: only what operators send."""
    return metering.settings.unknown_subject == "hold" and caller.is_operator


def _check_held(metering: Metering, events: Sequence[CloudEvent]) -> None:
    """Raises UsageConflict where an event that is held already says something else."""
    try:
        with metering.runtime.transaction() as session:
            items = held.conflicting(session, events)
    except SQLAlchemyError as error:
        raise IntakeUnavailable("PostgreSQL is away, which would have to hold some of the events") from error
    if items:
        raise _conflict(items)


def _hold(metering: Metering, events: Sequence[CloudEvent], caller: Caller, now: datetime) -> None:
    if not events:
        return
    try:
        with metering.runtime.transaction() as session:
            held.hold(session, events, key_id=caller.key_id, now=now)
    except SQLAlchemyError as error:
        raise IntakeUnavailable("PostgreSQL is away, which has to hold some of the events") from error


def _unknown_type(one: CloudEvent) -> EventFault:
    return EventFault(one.index, "/type", f"no meter counts events of the type {one.type!r}")


def _unknown_subject(one: CloudEvent) -> EventFault:
    return EventFault(one.index, "/subject", f"there is no customer {one.subject!r}")


def _time_fault(metering: Metering, ahead: bool) -> str:
    if ahead:
        return f"lies more than {FUTURE_SECONDS // 60} minutes ahead"
    return f"lies more than {metering.settings.lateness_seconds / 86400:g} days back"
