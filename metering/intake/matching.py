"""From CloudEvents to usage events: each meter that counts an event's type makes one of its own. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from metering.catalog import Catalog, Meter
from metering.errors import BadQuantity, InvalidUsage
from metering.intake.cloudevents import CloudEvent, EventFault, as_errors
from metering.intake.event import UsageEvent, look_up, make_event

CHANGES = ("change", "set")
"""What `data.op` of an event on a level may say: change the level, or replace it."""


class InvalidEvents(InvalidUsage):
    """Some events of the request cannot be recorded; nothing of it was. `errors` names each by index and pointer."""

    code = "invalid-events"

    def __init__(self, faults: Iterable[EventFault]) -> None:
        listed = sorted(faults, key=lambda fault: fault.index)
        first = listed[0]
        super().__init__(
            f"{len({fault.index for fault in listed})} of the events cannot be recorded; nothing was. "
            f"Event {first.index}: {first.pointer or '/'} {first.reason}",
            errors=as_errors(listed),
        )


class Placed(NamedTuple):
    """A usage event, and the event that it was made of; the first of those that were, or a further one."""

    event: UsageEvent
    origin: CloudEvent
    is_first: bool = True


def place(one: CloudEvent, catalog: Catalog, admitted: int, key_id: int | None) -> Iterator[Placed]:
    """A usage event for each meter that counts this event, whose type the catalog knows. Raises InvalidEvents.

    The first of those that count it bears its identity, whichever meters pass it over: so another event under the same
    identity is found out, even where other meters count it.
    """
    op = one.data.get("op", CHANGES[0])
    for number, meter in enumerate(_counting(one, catalog)):
        if meter.is_level and op not in CHANGES:
            raise _invalid(one, "/data/op", 'must be "change" or "set"')
        quantity = _quantity(meter, one)
        try:
            event = make_event(
                meter,
                customer=one.subject,
                quantity=quantity,
                source=one.source,
                id=one.id,
                admitted=admitted,
                time=one.time,
                outright=meter.is_level and op == "set",
                properties=one.data,
                key_id=key_id,
                secondary=number > 0,
            )
        except BadQuantity as wrong:
            raise _invalid(one, value_pointer(meter), wrong.facts.get("reason", wrong.message)) from None
        except InvalidUsage as wrong:
            raise _invalid(one, "/data", wrong.message) from None
        yield Placed(event, one, number == 0)


def _counting(one: CloudEvent, catalog: Catalog) -> Sequence[Meter]:
    """The meters of an event's type, without those made at run time whose value it lacks: it was not made for them.

    A meter of the catalog, and the only one of a type, pass over nothing. Raises InvalidEvents where none is left.
    """
    meters = catalog.meters_by_event_type[one.type]
    if len(meters) == 1:
        return meters
    counting = [meter for meter in meters if meter.key not in catalog.made_at_run_time or _has_value(meter, one)]
    if not counting:
        raise InvalidEvents(EventFault(one.index, value_pointer(meter), "is missing") for meter in meters)
    return counting


def _has_value(meter: Meter, one: CloudEvent) -> bool:
    return not meter.aggregates.needs_value or look_up(one.data, meter.value_property) is not None


def _quantity(meter: Meter, one: CloudEvent) -> Any:
    if meter.aggregates.counts_events:
        return 1
    value = look_up(one.data, meter.value_property)
    if value is None:
        raise _invalid(one, value_pointer(meter), "is missing")
    return value


def value_pointer(meter: Meter) -> str:
    """Where an event has the value of a meter; where it needs none, the event as a whole."""
    if not meter.aggregates.needs_value:
        return ""
    return "/data" + meter.value_property.removeprefix("$").replace(".", "/")


def _invalid(one: CloudEvent, pointer: str, reason: str) -> InvalidEvents:
    return InvalidEvents([EventFault(one.index, pointer, reason)])
