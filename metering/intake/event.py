"""One fact of usage, as it travels through the stream.

A message is a JSON array; `properties` stand in it as text, so that numbers in them keep every digit on their way into
PostgreSQL's `jsonb`. Times are whole microseconds since the epoch, quantities scaled whole numbers of the meter.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from math import isfinite
from typing import Any, Literal, NamedTuple

import orjson

from metering import exact_json
from metering.catalog import Meter
from metering.errors import BadQuantity, InvalidUsage
from metering.ids import identity_digest, text_digest

Op = Literal["add", "change", "set", "observe"]
OPS: tuple[Op, ...] = ("add", "change", "set", "observe")

MAX_NAME = 256
UNSTORABLE = re.compile("[\\x00\\ud800-\\udfff]")
MAX_GROUP_VALUE = 120
MAX_GROUP_BYTES = 1_600
MAX_PROPERTIES_BYTES = 32 * 1024


class UsageEvent(NamedTuple):
    """`time` is when it happened, `admitted` when the intake let it in; both in microseconds since the epoch.

    One event that several meters count is one of these for each. The first bears the identity (customer, source, id) as
    its `digest`, each further one that of (customer, source, id, meter). Made by the thousand, hence a tuple.
    """

    digest: str
    payload: str
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

    def message(self) -> bytes:
        """What stands in the stream: the fields in this order. `from_message` reads it."""
        return orjson.dumps(list(self))

    @classmethod
    def from_message(cls, message: bytes) -> "UsageEvent":
        """The event that `message` wrote. Raises ValueError or TypeError when it is none."""
        return cls(*orjson.loads(message))


def op_of(meter: Meter, *, outright: bool = False) -> Op:
    """What a quantity of `meter` does: an `outright` figure sets a level, another one changes it."""
    if meter.is_level:
        return "set" if outright else "change"
    return "observe" if meter.observes else "add"


def live_kind(meter: Meter) -> str:
    """How the scripts count a meter: `u` usage of a period, `l` a level, `x` not at all."""
    if meter.is_level:
        return "l"
    return "u" if meter.counts_live else "x"


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
    secondary: bool = False,
) -> UsageEvent:
    """A checked event. `time` is left out for usage that happens now.

    `payload` (32 hex digits) stands for what the event says where a repetition of it may say it a little differently.

    Raises:
        BadQuantity: see `units_of`; or the event has no value that a meter of different values could tell apart.
        InvalidUsage: the source, the id or the properties cannot be stored.
    """
    op = op_of(meter, outright=outright)
    units = units_of(meter, op, quantity)
    if meter.aggregates.reads_values:
        _check_value(meter, look_up(properties or {}, meter.value_property))
    for name, value in (("source", source), ("id", id)):
        if not value or len(value) > MAX_NAME or UNSTORABLE.search(value):
            raise InvalidUsage(f"{name} must hold 1 to {MAX_NAME} characters, no NUL nor half a surrogate", field=name)
    text = properties_text(properties or {})
    stated = f"{meter.key} {op} {units} {time} {text}"
    return UsageEvent(
        digest=identity_digest(customer, source, id, meter.key if secondary else ""),
        payload=payload or text_digest(stated),
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
    )


def units_of(meter: Meter, op: Op, quantity: object) -> int:
    """What a quantity counts as, in scaled units. Meters that count events take each of them as one.

    What is observed (a temperature, a balance) may be below zero, and so may the change of a level. What is added up
    may not: that would take back usage, which is for `store.void`. An outright level is none below zero either.

    Raises BadQuantity, see `Meter.to_units`.
    """
    if meter.aggregates.counts_events:
        return 1
    return meter.to_units(quantity, signed=op in ("change", "observe"))


def _check_value(meter: Meter, value: object) -> None:
    """A value to be told apart from others stays in the properties: a text, or a number that JSON can hold."""
    if isinstance(value, str):
        return
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool) and isfinite(value):
        return
    reason = f"is no text and no number at {meter.value_property}"
    raise BadQuantity(f"{meter.key}: the value {value!r} {reason}", meter=meter.key, reason=reason)


def group_of(meter: Meter, properties: Mapping[str, Any]) -> str:
    """The group an event counts in: its group-by values as canonical JSON, `{}` for a meter without."""
    if not meter.group_by:
        return "{}"
    values = {name: _group_value(properties, path) for name, path in meter.group_by.items()}
    text = orjson.dumps(values, option=orjson.OPT_SORT_KEYS)
    if len(text) > MAX_GROUP_BYTES:  # an index could not hold it: such values still count, as one group each
        text = orjson.dumps({name: text_digest(value) for name, value in values.items()})
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
    """A value as text; nothing and an empty text are one. `store.usage_query` writes it the same way in SQL."""
    value = look_up(properties, path)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)[:MAX_GROUP_VALUE]


def properties_text(properties: Mapping[str, Any]) -> str:
    """Raises InvalidUsage for what cannot be stored."""
    try:
        text = exact_json.write(properties, sort_keys=True)  # equal properties are told by equal texts
    except TypeError as error:
        raise InvalidUsage(f"the properties are no JSON: {error}", field="data") from None
    if len(text) > MAX_PROPERTIES_BYTES:
        raise InvalidUsage(f"the properties take more than {MAX_PROPERTIES_BYTES} bytes", field="data")
    if b"\\u0000" in text:
        raise InvalidUsage("the properties hold a NUL character, which PostgreSQL cannot store", field="data")
    return text.decode()
