"""One fact of usage, as it travels through the stream.

A message is a JSON array; `properties` stand in it as text, so that numbers in them keep every digit on their way into
PostgreSQL's `jsonb`. Times are whole microseconds since the epoch, quantities scaled whole numbers of the meter.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, cached_property
from typing import Any, Literal

import orjson

from metering.catalog import Meter
from metering.errors import InvalidUsage
from metering.ids import identity_digest, payload_digest

Op = Literal["add", "change", "set", "observe"]
OPS: tuple[Op, ...] = ("add", "change", "set", "observe")

MAX_NAME = 256
UNSTORABLE = re.compile("[\\x00\\ud800-\\udfff]")
MAX_GROUP_VALUE = 120
MAX_GROUP_BYTES = 1_600
MAX_PROPERTIES_BYTES = 32 * 1024


@dataclass(frozen=True)
class UsageEvent:
    """`time` is when it happened, `admitted` when the intake let it in; both in microseconds since the epoch."""

    customer: str
    meter: str
    op: Op
    units: int
    time: int
    admitted: int
    source: str
    id: str
    key_id: int | None
    grp: str
    properties: str
    payload: str

    @cached_property
    def digest(self) -> str:
        return identity_digest(self.customer, self.source, self.id)

    def message(self) -> bytes:
        """What stands in the stream; `decode` reads it."""
        return orjson.dumps(
            [
                self.digest,
                self.payload,
                self.customer,
                self.meter,
                self.op,
                self.units,
                self.time,
                self.admitted,
                self.source,
                self.id,
                self.key_id,
                self.grp,
                self.properties,
            ]
        )

    @classmethod
    def from_message(cls, message: bytes) -> "UsageEvent":
        """The event that `message` wrote. Raises ValueError when it is none."""
        (
            _,
            payload,
            customer,
            meter,
            op,
            units,
            time,
            admitted,
            source,
            id,
            key_id,
            grp,
            properties,
        ) = orjson.loads(message)
        return cls(customer, meter, op, units, time, admitted, source, id, key_id, grp, properties, payload)


def op_of(meter: Meter, *, outright: bool = False) -> Op:
    """What a quantity of `meter` does: an `outright` figure sets a level, another one changes it."""
    if meter.is_level:
        return "set" if outright else "change"
    return "add" if meter.counts_live else "observe"


def live_kind(meter: Meter) -> str:
    """How the scripts count a meter: `u` usage of a period, `l` a level, `x` not at all."""
    if meter.is_level:
        return "l"
    return "u" if meter.counts_live else "x"


def units_of(meter: Meter, op: Op, quantity: object) -> int:
    """The scaled units that an event counts. Raises BadQuantity."""
    return 1 if meter.aggregation == "count" else meter.to_units(quantity, signed=op == "change")


def make_event(
    meter: Meter,
    *,
    customer: str,
    quantity: object,
    source: str,
    id: str,
    admitted: int,
    time: int | None = None,
    outright: bool = False,
    properties: Mapping[str, Any] | None = None,
    key_id: int | None = None,
    payload: str = "",
) -> UsageEvent:
    """A checked event. `time` is left out for usage that happens now.

    `payload` (32 hex digits) stands for what the event says where a repetition of it may say it a little differently.

    Raises:
        BadQuantity: see `Meter.to_units`.
        InvalidUsage: the source, the id or the properties cannot be stored.
    """
    op = op_of(meter, outright=outright)
    units = units_of(meter, op, quantity)
    for name, value in (("source", source), ("id", id)):
        if not value or len(value) > MAX_NAME or UNSTORABLE.search(value):
            raise InvalidUsage(f"{name} must hold 1 to {MAX_NAME} characters, no NUL nor half a surrogate", field=name)
    text = properties_text(properties or {})
    stated = {"meter": meter.key, "op": op, "units": units, "time": time, "properties": properties or {}}
    return UsageEvent(
        customer=customer,
        meter=meter.key,
        op=op,
        units=units,
        time=admitted if time is None else time,
        admitted=admitted,
        source=source,
        id=id,
        key_id=key_id,
        grp=group_of(meter, properties or {}),
        properties=text,
        payload=payload or payload_digest(stated),
    )


def group_of(meter: Meter, properties: Mapping[str, Any]) -> str:
    """The group an event counts in: its group-by values as canonical JSON, `{}` for a meter without."""
    if not meter.group_by:
        return "{}"
    values = {name: _group_value(properties, path) for name, path in meter.group_by.items()}
    text = orjson.dumps(values, option=orjson.OPT_SORT_KEYS)
    if len(text) > MAX_GROUP_BYTES:  # an index could not hold it: such values still count, as one group each
        text = orjson.dumps({name: payload_digest({"value": value}) for name, value in values.items()})
    return text.decode()


def look_up(properties: Mapping[str, Any], path: str) -> Any:
    """The value at a JSON path such as `$.a.b`, or None."""
    value: Any = properties
    for name in _names(path):
        if not (type(value) is dict or isinstance(value, Mapping)) or name not in value:
            return None
        value = value[name]
    return value


@cache
def _names(path: str) -> list[str]:
    """The names on the way of a path; there are no more paths than the catalog has."""
    return path.split(".")[1:]


def _group_value(properties: Mapping[str, Any], path: str) -> str:
    value = look_up(properties, path)
    return "" if value is None else str(value)[:MAX_GROUP_VALUE]


def properties_text(properties: Mapping[str, Any]) -> str:
    """Raises InvalidUsage for what cannot be stored."""
    try:
        text = orjson.dumps(properties, default=_exact_number)
    except TypeError as error:
        raise InvalidUsage(f"the properties are no JSON: {error}", field="data") from None
    if len(text) > MAX_PROPERTIES_BYTES:
        raise InvalidUsage(f"the properties take more than {MAX_PROPERTIES_BYTES} bytes", field="data")
    if b"\\u0000" in text:
        raise InvalidUsage("the properties hold a NUL character, which PostgreSQL cannot store", field="data")
    return text.decode()


def _exact_number(value: object) -> orjson.Fragment:
    """A Decimal keeps all its digits in JSON."""
    if isinstance(value, Decimal) and value.is_finite():
        return orjson.Fragment(str(value))
    raise TypeError(f"{type(value).__name__} is not JSON")
