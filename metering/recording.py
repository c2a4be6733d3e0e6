"""Recording many events: in parts that a script takes, with everything looked at before anything is recorded.

Always holds: what refuses one part refuses all. After the look nothing is left that could refuse a part but what
others do in that very moment; so only that, or a process or a Redis that dies in between, leaves a part behind.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from metering.errors import (
    IntakeUnavailable,
    InvalidUsage,
    LimitExceeded,
    MeteringError,
    NotPermitted,
    UnknownCustomer,
    UsageConflict,
)
from metering.failpoints import visit
from metering.ids import new_id
from metering.intake.admission import MAX_EVENTS_PER_SCRIPT
from metering.intake.cloudevents import EventFault, as_errors
from metering.intake.event import UsageEvent
from metering.intake.matching import InvalidEvents, Placed, value_pointer
from metering.intake.refusals import StaleState
from metering.intake.values import Admission, Ask, Moved
from metering.service import Metering

MAX_PLAIN_UNITS = 2**32
TAKEN = "subject, source and id are those of an event that says something else"

Answer = TypeVar("Answer")
Refused = TypeVar("Refused", bound=MeteringError)


@dataclass(frozen=True, slots=True)
class Part:
    """What one script records."""

    partition: int
    placed: Sequence[Placed]

    @property
    def events(self) -> list[UsageEvent]:
        return [one.event for one in self.placed]


def parts_of(metering: Metering, placed: Iterable[Placed]) -> Iterator[Part]:
    """The events of each partition, in runs that a script takes; the events of a customer stay in order."""
    intake = metering.runtime.intake
    by_partition: dict[int, list[Placed]] = {}
    for one in placed:
        by_partition.setdefault(intake.partition(one.event.customer), []).append(one)
    for partition, waiting in by_partition.items():
        for start in range(0, len(waiting), MAX_EVENTS_PER_SCRIPT):
            yield Part(partition, waiting[start : start + MAX_EVENTS_PER_SCRIPT])


def record(metering: Metering, part: Part, now: datetime, *, enforce: bool = False) -> None:
    """Record one part, all or none. Raises as `record_together`, and UnknownCustomer."""
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


def record_together(metering: Metering, parts: Sequence[Part], now: datetime, *, enforce: bool) -> None:
    """Look at all parts, then record all of them.

    Raises:
        InvalidEvents, UsageConflict, LimitExceeded (with `enforce`): nothing was recorded.
        IntakeUnavailable: unknown what was recorded.
    """
    moves = _look(metering, parts, now, enforce)
    with _room(metering, moves.values() if enforce else (), parts):
        visit("ingest.looked")
        _write_all(metering, parts, now)


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
            _record_after_all(metering, part, now, alone=len(parts) == 1)


def _record_after_all(metering: Metering, part: Part, now: datetime, *, alone: bool) -> None:
    """Record a part that was not taken with the others: for what it needs first, or for what refuses it.

    Then another request came between the look and the recording, and what it says of the rest is true no more.
    """
    try:
        record(metering, part, now)
    except (InvalidUsage, LimitExceeded, UsageConflict) as refused:
        if not alone:
            came_between = "another request came between, so the rest of this one was recorded"
            refused.message = refused.message.replace("nothing was recorded", came_between).replace(
                "nothing was.", f"{came_between}."
            )
        raise


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
    repeated = [
        one.origin.index
        for part in parts
        for one in part.placed
        if payloads.setdefault(one.event.digest, one.event.payload) != one.event.payload
    ]
    if repeated:
        raise conflict(repeated)


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
        raise conflict([places[event.digest] for event in taken])


@contextmanager
def _room(metering: Metering, moves: Iterable[Moved], parts: Sequence[Part]) -> Iterator[None]:
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
    try:
        admission = intake.reserve(ask, rid=new_id(), partition=intake.partition(customer), now=metering.clock())
    except (LimitExceeded, NotPermitted) as refused:
        meter = refused.facts.get("meter")
        first = next(one for part in parts for one in part.placed if meter in (None, one.event.meter))
        raise _naming(metering, refused, first) from None
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
    except UsageConflict as taken:
        raise conflict([part.placed[item].origin.index for item in taken.facts["items"]]) from None
    except (LimitExceeded, UnknownCustomer) as refused:
        raise _naming(metering, refused, part.placed[refused.facts.pop("item")]) from None
    except InvalidUsage as wrong:
        one = part.placed[wrong.facts["item"]]
        pointer = value_pointer(metering.catalog.meter(one.event.meter))
        raise InvalidEvents([EventFault(one.origin.index, pointer, wrong.message)]) from None


def _naming(metering: Metering, refused: Refused, one: Placed) -> Refused:
    """The refusal, with the event that it is for."""
    is_quantity = isinstance(refused, LimitExceeded)
    pointer = value_pointer(metering.catalog.meter(one.event.meter)) if is_quantity else "/subject"
    refused.facts["errors"] = as_errors([EventFault(one.origin.index, pointer, refused.message)])
    return refused


def conflict(indices: Iterable[int]) -> UsageConflict:
    """The refusal of a request some of whose events, by their place in it, bear a taken identity."""
    taken = sorted(set(indices))
    return UsageConflict(
        f"{len(taken)} of the events bear an identity (subject, source, id) that is taken by an event that says "
        "something else; nothing was recorded",
        errors=as_errors(EventFault(index, "/id", TAKEN) for index in taken),
    )
