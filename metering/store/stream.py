"""Reading a partition's usage stream: entries become rows for the drain, and what cannot becomes a fault.

An entry `<generation>-<sequence>` alternates decisions ("item|period|effect|flags", written by the script) and messages
(`UsageEvent.message`, written by the caller). Its place is one number, `position`, that grows with both parts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from metering.intake.event import OPS

SEQUENCE_BITS = 40
GENERATION_OF_POSITION = 1 << SEQUENCE_BITS

Entry = tuple[int, Sequence[bytes]]
"""A sequence number and the alternating decisions and messages."""


class Row(NamedTuple):
    """One event on its way into PostgreSQL. `period` and `effect` are what the script counted it as."""

    partition: int
    position: int
    item: int
    digest: str
    payload: str
    customer: str
    meter: str
    op: str
    units: int
    time: int
    admitted: int
    source: str
    event_id: str
    key_id: int | None
    grp: str
    properties: str
    period: int | None
    effect: int
    overshoot: bool
    decision: bytes
    message: bytes


@dataclass(frozen=True, slots=True)
class Fault:
    """A message that cannot become an event, and why."""

    partition: int
    position: int
    item: int
    decision: bytes
    message: bytes
    reason: str
    detail: str
    customer: str | None = None


def position(generation: int, sequence: int) -> int:
    return generation * GENERATION_OF_POSITION + sequence


def read_entries(
    partition: int, generation: int, entries: Iterable[Entry], *, most: int
) -> tuple[list[Row], list[Fault], int | None]:
    """Rows and faults of whole entries until `most` rows are reached, and the sequence of the last entry read."""
    rows: list[Row] = []
    faults: list[Fault] = []
    last: int | None = None
    for sequence, fields in entries:
        if len(rows) >= most:
            break
        place = position(generation, sequence)
        for item in range(len(fields) // 2):
            decision, message = fields[2 * item], fields[2 * item + 1]
            try:
                rows.append(decode(partition, place, item, decision, message))
            except (ValueError, TypeError) as error:
                faults.append(Fault(partition, place, item, decision, message, "unreadable", str(error)[:500]))
        last = sequence
    return rows, faults, last


def decode(partition: int, place: int, item: int, decision: bytes, message: bytes) -> Row:
    """The row of one message. Raises ValueError or TypeError when it is not what `UsageEvent.message` writes."""
    _, period, effect, flags = decision.split(b"|")
    (
        digest,
        payload,
        customer,
        meter,
        op,
        units,
        time,
        admitted,
        source,
        event_id,
        key_id,
        grp,
        properties,
    ) = orjson.loads(message)
    if op not in OPS or type(units) is not int or type(time) is not int or type(admitted) is not int:
        raise ValueError("op, units or times are none")
    for text in (customer, meter, source, event_id, grp, properties):
        if type(text) is not str:
            raise ValueError(f"{text!r} is no text")
    if len(digest) != 32 or len(payload) != 32 or not (key_id is None or type(key_id) is int):
        raise ValueError("a digest or the key is none")
    return Row(
        partition,
        place,
        item,
        digest,
        payload,
        customer,
        meter,
        op,
        units,
        time,
        admitted,
        source,
        event_id,
        key_id,
        grp,
        properties,
        int(period) if period else None,
        int(effect),
        b"o" in flags,
        decision,
        message,
    )
