"""At what a customer is alerted: percents of a limit that hold for all meters, and thresholds of its own.

They hold for what is used from now on; alerts that were given stay.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, cast

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from metering.catalog import Catalog, Meter
from metering.errors import BadQuantity, InvalidUsage
from metering.models import AlertThreshold, Customer, MeterRow
from metering.money import minor_digits
from metering.quantities import unit_word

Kind = Literal["percent", "quantity", "money"]

MOST_PERCENTS = 10
MOST_OWN = 20
HIGHEST_PERCENT = 1000
HIGHEST_AMOUNT = Decimal(10) ** 12


@dataclass(frozen=True, slots=True)
class Threshold:
    """`value` is a percent of the limit of `meter`, a quantity in its unit, or (no meter) an amount of the bill."""

    kind: Kind
    meter: str | None
    value: Decimal


class BadThreshold(InvalidUsage):
    """What cannot be a threshold. `field`: which part of it is at fault, "meter", "kind" or "value"; the message goes
    on from its name.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


# -- percents for all meters -------------------------------------------------------------------------------------------


def percents_of(catalog: Catalog, customer: Customer) -> tuple[int, ...]:
    """The percents that hold for all meters of a customer: its own, else the catalog's."""
    return catalog.alert_percents if customer.alert_percents is None else tuple(customer.alert_percents)


def set_percents(customer: Customer, percents: Collection[int] | None) -> None:
    """Give a customer percents of its own, none at all (an empty collection), or the catalog's again (None)."""
    customer.alert_percents = None if percents is None else sorted(set(percents))


def add_percent(catalog: Catalog, customer: Customer, value: Decimal) -> None:
    """Raises BadThreshold."""
    _check_percent(value)
    percents = percents_of(catalog, customer)
    if value in percents:
        raise BadThreshold("value", "must be another one: this one is there")
    if len(percents) >= MOST_PERCENTS:
        raise BadThreshold(
            "value", f"must wait: there are {MOST_PERCENTS} for all meters, which is the most. Remove one first"
        )
    set_percents(customer, (*percents, int(value)))


def remove_percent(catalog: Catalog, customer: Customer, value: Decimal) -> bool:
    """Whether it was there."""
    percents = percents_of(catalog, customer)
    if value not in percents:
        return False
    set_percents(customer, [percent for percent in percents if percent != value])
    return True


def percents_that_hold(
    meter: Meter, limit_units: int | None, for_all: Iterable[int], own: Iterable[Decimal]
) -> set[int]:
    """The percents of one meter's limit that alert: those for all meters and its own, each once.

    A limit of nothing is none to run into. The only seat of a plan being taken is how it is meant: what holds for all
    meters says nothing there, or it would stand there for ever.
    """
    if not limit_units:
        return set()
    single = meter.is_level and limit_units == meter.to_units(1)
    return {int(percent) for percent in own} | (set() if single else set(for_all))


# -- a customer's own --------------------------------------------------------------------------------------------------


def own_thresholds(session: Session, customer_id: int) -> list[Threshold]:
    """By meter, in the order of their keys, then those of money."""
    return list(_by_threshold(session, customer_id))


def add_threshold(session: Session, catalog: Catalog, customer: Customer, threshold: Threshold) -> None:
    """The caller holds the customer. Raises BadThreshold."""
    check(catalog, threshold)
    present = own_thresholds(session, customer.id)
    if threshold in present:
        raise BadThreshold("value", "must be another one: this one is there")
    if len(present) >= MOST_OWN:
        raise BadThreshold(
            "value", f"must wait: there are {MOST_OWN} of meters and of the bill, which is the most. Remove one first"
        )
    _insert(session, customer, [threshold])


def remove_threshold(session: Session, customer: Customer, threshold: Threshold) -> bool:
    """Whether it was there."""
    row_id = _by_threshold(session, customer.id).get(threshold)
    if row_id is not None:
        session.execute(delete(AlertThreshold).where(AlertThreshold.id == row_id))
    return row_id is not None


def replace_thresholds(session: Session, customer: Customer, thresholds: Collection[Threshold]) -> None:
    """Have these and no others; the caller holds the customer and has checked each."""
    wanted, present = set(thresholds), _by_threshold(session, customer.id)
    gone = [row_id for threshold, row_id in present.items() if threshold not in wanted]
    if gone:
        session.execute(delete(AlertThreshold).where(AlertThreshold.id.in_(gone)))
    _insert(session, customer, wanted - present.keys())


def check(catalog: Catalog, threshold: Threshold) -> None:
    """Raises BadThreshold: nothing could ever reach it, or it is none."""
    value = threshold.value
    if threshold.meter is None:
        if threshold.kind != "money":
            raise BadThreshold("kind", "must be an amount: the bill is measured in money")
        _check_amount(value, catalog.currency)
        return
    meter = catalog.meters.get(threshold.meter)
    if meter is None:
        raise BadThreshold("meter", "must be a meter that there is")
    if not meter.counts_live:
        raise BadThreshold("meter", "must be a meter that adds up: the values of this one are looked at one by one")
    if threshold.kind == "money":
        raise BadThreshold("kind", "must be a percent or a quantity: a meter is not measured in money")
    if threshold.kind == "percent":
        _check_percent(value)
    else:
        _check_quantity(meter, value)


def _check_percent(value: Decimal) -> None:
    if not 1 <= value <= HIGHEST_PERCENT or value != int(value):
        raise BadThreshold("value", f"must be a whole percent from 1 to {HIGHEST_PERCENT:,}")


def _check_quantity(meter: Meter, value: Decimal) -> None:
    try:
        units = meter.to_units(value)
    except BadQuantity as error:
        raise BadThreshold(
            "value", f"must be a quantity of {unit_word(meter.unit, Decimal(2))}: it {error.facts['reason']}"
        ) from None
    if not units:
        raise BadThreshold("value", "must be above 0")


def _check_amount(value: Decimal, currency: str) -> None:
    digits = minor_digits(currency)
    if not 0 < value <= HIGHEST_AMOUNT:
        raise BadThreshold("value", f"must be above 0 and at most {HIGHEST_AMOUNT:,f}")
    if value != round(value, digits):
        raise BadThreshold("value", f"must have at most {digits} decimal places, as {currency} has")


def _by_threshold(session: Session, customer_id: int) -> dict[Threshold, int]:
    rows = session.execute(
        select(AlertThreshold.id, AlertThreshold.kind, MeterRow.key, AlertThreshold.value)
        .join(MeterRow, MeterRow.id == AlertThreshold.meter_id, isouter=True)
        .where(AlertThreshold.customer_id == customer_id)
        .order_by(MeterRow.key.nulls_last(), AlertThreshold.kind, AlertThreshold.value)
    )
    return {Threshold(cast(Kind, row.kind), row.key, row.value): row.id for row in rows}


def _insert(session: Session, customer: Customer, thresholds: Collection[Threshold]) -> None:
    if not thresholds:
        return
    keys = {threshold.meter for threshold in thresholds if threshold.meter is not None}
    ids = {row.key: row.id for row in session.execute(select(MeterRow.key, MeterRow.id).where(MeterRow.key.in_(keys)))}
    session.add_all(
        AlertThreshold(
            customer_id=customer.id,
            meter_id=ids[one.meter] if one.meter else None,
            kind=one.kind,
            value=one.value.normalize(),
        )
        for one in thresholds
    )
    session.flush()
