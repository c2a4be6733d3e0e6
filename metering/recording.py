"""Recording the events of a request: in parts that a script takes, all of them or none.

Always holds: what refuses one part refuses all. A single part is recorded by its script; several are claimed first, so
only a process or a Redis that dies in between leaves a part behind, and sending the request again completes it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TypeVar

from metering.catalog import Catalog
from metering.errors import InvalidUsage, LimitExceeded, MeteringError, UnknownCustomer, UsageConflict
from metering.failpoints import visit
from metering.intake.admission import MAX_EVENTS_PER_SCRIPT
from metering.intake.claims import Claim, Moves, Run
from metering.intake.cloudevents import EventFault, as_errors
from metering.intake.matching import InvalidEvents, Placed, value_pointer
from metering.intake.refusals import StaleState
from metering.intake.values import Recording
from metering.service import Metering

MAX_PLAIN_UNITS = 2**32
TAKEN = "subject, source and id are those of an event that says something else"

Answer = TypeVar("Answer")
Refused = TypeVar("Refused", bound=MeteringError)


@dataclass(frozen=True, slots=True)
class Part:
    """What one script records. `placed` are the events of its run, each with the event of the request it is made of."""

    run: Run
    placed: Sequence[Placed]


def parts_of(metering: Metering, placed: Iterable[Placed]) -> list[Part]:
    """The events of each partition, in runs that a script takes; the events of a customer stay in order.

    Raises UsageConflict where two of them bear one identity and say different things.
    """
    intake = metering.runtime.intake
    by_partition: dict[int, list[Placed]] = {}
    for one in _distinct(placed):
        by_partition.setdefault(intake.partition(one.event.customer), []).append(one)
    return [
        Part(Run(partition, [one.event for one in some]), some)
        for partition, waiting in by_partition.items()
        for some in _slices(waiting, MAX_EVENTS_PER_SCRIPT)
    ]


def _slices(placed: Sequence[Placed], most: int) -> Iterator[Sequence[Placed]]:
    for start in range(0, len(placed), most):
        yield placed[start : start + most]


def _distinct(placed: Iterable[Placed]) -> Iterator[Placed]:
    payloads: dict[str, str] = {}
    repeated: list[int] = []
    for one in placed:
        said = payloads.get(one.event.digest)
        if said is None:
            payloads[one.event.digest] = one.event.payload
            yield one
        elif said != one.event.payload:
            repeated.append(one.origin.index)
    if repeated:
        raise conflict(repeated)


def record(metering: Metering, parts: Sequence[Part], now: datetime, *, enforce: bool) -> None:
    """Record all parts, or nothing.

    Raises:
        InvalidEvents, UsageConflict, UnknownCustomer, LimitExceeded (with `enforce`): nothing was recorded.
        IntakeUnavailable: unknown what was recorded.
    """
    how = metering.recording(now, enforce=enforce)
    if len(parts) == 1:
        (part,) = parts
        intake = metering.runtime.intake
        _translated(metering, part, lambda: intake.record(part.run.partition, part.run.events, how))
    elif parts:
        _record_together(metering, parts, how)


def _record_together(metering: Metering, parts: Sequence[Part], how: Recording) -> None:
    claim = Claim(metering.runtime.intake, [part.run for part in parts], how)
    try:
        with claim.taken():
            moves = _look(metering, parts, claim, how)
            with claim.room(moves if how.enforce else {}):
                visit("ingest.looked")
                refused = claim.record()
                visit("ingest.recorded")
                for part in parts:
                    if part.run in refused:
                        _translated(metering, part, partial(claim.record_again, part.run))
    except UsageConflict as taken:
        if "events" not in taken.facts:
            raise
        places = {one.event.digest: one.origin.index for part in parts for one in part.placed}
        raise conflict(places[event.digest] for event in taken.facts["events"]) from None
    except LimitExceeded as refused_room:
        if "errors" in refused_room.facts:
            raise
        meter = refused_room.facts["meter"]  # others took the room since the look: no event of it is the first too many
        first = next(one for part in parts for one in part.placed if one.event.meter == meter)
        raise _naming(metering, refused_room, first) from None


def _look(metering: Metering, parts: Sequence[Part], claim: Claim, how: Recording) -> Moves:
    """Look at all parts before any is recorded: whatever one of them is refused for refuses the request."""
    moves: dict[int, Moves] = {}
    if how.enforce or not all(_is_plain(part.run, metering.catalog) for part in parts):
        for part in parts:
            before = moves.get(part.run.partition, {})
            moves[part.run.partition] = _translated(metering, part, partial(claim.look, part.run, before))
    return {place: moved for found in moves.values() for place, moved in found.items()}


def _is_plain(run: Run, catalog: Catalog) -> bool:
    """Whether nothing but a taken identity can refuse this run: no level that might fall below zero, and no amount that
    no counter could count."""
    return all(event.units <= MAX_PLAIN_UNITS and not catalog.meter(event.meter).is_level for event in run.events)


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
        if "item" not in refused.facts:
            raise
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
