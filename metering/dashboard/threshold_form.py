"""The form that adds an alert threshold: what was typed, and what it says. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from metering.catalog import Catalog, Meter
from metering.humanize import money
from metering.limits.thresholds import BadThreshold, Threshold
from metering.money import minor_digits
from metering.quantities import unit_word

ALL, BILL = "*", "$"
"""What a threshold is of, where it is not of a meter; no key of a meter is so."""

LONGEST = 40
NUMBER = re.compile(r"([0-9]{1,3}(,[0-9]{3})+|[0-9]+)(\.[0-9]+)?")
SIZE = re.compile(r"([0-9.,]+)(?:([kmgtp]?)i?b)?")
SIZES = {"": 1, **{letter: 1024**power for power, letter in enumerate("kmgtp", start=1)}}
"""Shown as "5 GB", sizes are binary ones, so that is how they are taken."""
DURATION = re.compile(r"(?:([0-9.,]+)h(?:ours?)?)?(?:([0-9.,]+)m(?:in(?:utes?)?)?)?(?:([0-9.,]+)s(?:ec(?:onds?)?)?)?")
DURATION_PARTS = (3600, 60, 1)
"""Seconds."""


@dataclass(frozen=True, slots=True)
class ThresholdForm:
    """As it was filled in; `faults` by the name of the field."""

    of: str = ALL
    value: str = ""
    faults: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def sent(cls, form: Mapping[str, Any]) -> "ThresholdForm":
        of, value = (str(form.get(name, ""))[: LONGEST + 1] for name in ("of", "value"))
        return cls(of, value)

    def refused(self, error: BadThreshold) -> "ThresholdForm":
        name = "value" if error.field == "value" else "of"
        return ThresholdForm(self.of, self.value, {name: sentence(error.message)})


def sentence(message: str) -> str:
    return f"{message[:1].upper()}{message[1:]}."


def read(catalog: Catalog, form: ThresholdForm) -> Threshold:
    """What a form says: of the bill an amount, of all meters a percent, of one a percent where it says "%".

    Raises BadThreshold.
    """
    text = form.value.strip()
    if form.of == ALL:
        return Threshold("percent", None, _number(text.removesuffix("%"), "a percent of each limit, such as 80%"))
    if form.of == BILL:
        return Threshold("money", None, _amount(text, catalog.currency))
    meter = catalog.meters.get(form.of)
    if meter is None:
        raise BadThreshold("meter", "must be one of these")
    if text.endswith("%"):
        return Threshold("percent", meter.key, _number(text.removesuffix("%"), "a percent of the limit, such as 80%"))
    return Threshold("quantity", meter.key, _quantity(meter, text))


def _number(text: str, such: str) -> Decimal:
    text = re.sub(r"[\s_]", "", text)
    if len(text) > LONGEST or not NUMBER.fullmatch(text):
        raise BadThreshold("value", f"must be {such}")
    return Decimal(text.replace(",", ""))


def _amount(text: str, currency: str) -> Decimal:
    sign = money(Decimal(0), currency).strip("0.,\u00a0 ")
    bare = re.sub(rf"{re.escape(currency)}|{re.escape(sign)}", "", text, flags=re.IGNORECASE)
    found = _number(bare, f"an amount, such as {money(Decimal('1250'), currency)}")
    digits = minor_digits(currency)
    if len(bare.partition(".")[2].strip()) > digits:  # "1.250" may mean something else
        raise BadThreshold("value", f"must have at most {digits} decimal places, as {currency} has")
    return found


def _quantity(meter: Meter, text: str) -> Decimal:
    if meter.display == "bytes":
        return _size(text)
    if meter.display == "seconds":
        return _seconds(text)
    words = (unit_word(meter.unit, Decimal(2)), meter.unit)
    bare = next((text[: -len(word)] for word in words if text.lower().endswith(word.lower())), text)
    if "." in bare and not meter.scale:  # "5.000" may mean something else
        raise BadThreshold("value", f"must be a whole number of {words[0]}, such as 5,000")
    return _number(bare, "a percent, such as 80%, or a quantity, such as 5,000")


def _size(text: str) -> Decimal:
    """To a whole byte: what is shown as "3.2 GB" is none."""
    such = "a percent, such as 80%, or a size, such as 500 MB or 5 GB"
    parts = SIZE.fullmatch(re.sub(r"\s", "", text.lower()))
    if parts is None:
        raise BadThreshold("value", f"must be {such}")
    return Decimal(round(_number(parts[1], such) * SIZES[parts[2] or ""]))


def _seconds(text: str) -> Decimal:
    """As durations are shown, "2 h 25 min" or "0.5 s"; a number alone is of seconds."""
    such = "a percent, such as 80%, or a time, such as 90 s, 20 min or 1 h 30 min"
    bare = re.sub(r"\s", "", text.lower())
    if NUMBER.fullmatch(bare):
        return _number(bare, such)
    parts = DURATION.fullmatch(bare)
    if parts is None or not any(parts.groups()):
        raise BadThreshold("value", f"must be {such}")
    numbers = [_number(part, such) if part else Decimal(0) for part in parts.groups()]
    return sum((number * length for number, length in zip(numbers, DURATION_PARTS, strict=True)), Decimal(0))
