"""The form that adds an alert threshold: what was typed, and what it says. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, get_args

from metering.catalog import Catalog, Meter
from metering.catalog.quantities import parse_size
from metering.dashboard.humanize import money
from metering.limits.thresholds import BadThreshold, Kind, Threshold

ALL, BILL = "*", "$"
"""What a threshold is of, where it is not of a meter; no key of a meter is so."""

LONGEST = 40
NUMBER = re.compile(r"([0-9]{1,3}(,[0-9]{3})+|[0-9]+)(\.[0-9]+)?")
SHOWN_SIZE = re.compile(r"(?<=[KMGTP])B$")


@dataclass(frozen=True, slots=True)
class ThresholdForm:
    """As it was filled in; `faults` by the name of the field."""

    of: str = ALL
    kind: str = "percent"
    value: str = ""
    faults: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def sent(cls, form: Mapping[str, Any]) -> "ThresholdForm":
        of, kind, value = (str(form.get(name, ""))[: LONGEST + 1] for name in ("of", "kind", "value"))
        return cls(of, kind, value)

    def refused(self, error: BadThreshold) -> "ThresholdForm":
        name = "of" if error.field == "meter" else error.field
        return ThresholdForm(self.of, self.kind, self.value, {name: sentence(error.message)})


def sentence(message: str) -> str:
    return f"{message[:1].upper()}{message[1:]}."


def read(catalog: Catalog, form: ThresholdForm) -> Threshold:
    """What a form says; one for all meters is a percent without a meter. Raises BadThreshold."""
    kinds: tuple[Kind, ...] = get_args(Kind)
    kind = next((known for known in kinds if known == form.kind), None)
    if kind is None:
        raise BadThreshold("kind", "must be one of these")
    if form.of == ALL:
        if kind != "percent":
            raise BadThreshold("kind", "must be a percent: that alone is the same for all meters")
        return Threshold(kind, None, _number(form.value.strip().removesuffix("%")))
    if form.of == BILL:
        if kind != "money":
            raise BadThreshold("kind", "must be an amount: the bill is measured in money")
        return Threshold(kind, None, _amount(form.value, catalog.currency))
    meter = catalog.meters.get(form.of)
    if meter is None:
        raise BadThreshold("meter", "must be one of these")
    if kind == "money":
        raise BadThreshold("kind", "must be a percent or a quantity: a meter is not measured in money")
    if kind == "percent":
        return Threshold(kind, meter.key, _number(form.value.strip().removesuffix("%")))
    return Threshold(kind, meter.key, _quantity(meter, form.value))


def _number(text: str) -> Decimal:
    text = re.sub(r"[\s_]", "", text)
    if len(text) > LONGEST or not NUMBER.fullmatch(text):
        raise BadThreshold("value", "must be a number, such as 50 or 1,000")
    return Decimal(text.replace(",", ""))


def _amount(text: str, currency: str) -> Decimal:
    sign = money(Decimal(0), currency).strip("0.,\u00a0 ")
    return _number(re.sub(rf"{re.escape(currency)}|{re.escape(sign)}", "", text, flags=re.IGNORECASE))


def _quantity(meter: Meter, text: str) -> Decimal:
    if meter.display != "bytes":
        return _number(text)
    try:
        # Sizes are shown as "5 GB" and mean binary ones, so that is how they are taken.
        return parse_size(SHOWN_SIZE.sub("iB", text.strip().replace(",", "").upper()))
    except ValueError:
        raise BadThreshold("value", "must be a size, such as 500 MB or 5 GB") from None
