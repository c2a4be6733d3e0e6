"""Alerts that were just written down, told to whom they concern: an e-mail and a webhook, in the same transaction."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.catalog import Catalog, Meter
from metering.models import Alert, Customer, MeterRow, Period
from metering.money import minor_digits
from metering.notify.audience import write_to_managers
from metering.notify.deliveries import Message, tell

FULL = 100
"""Percent. The threshold that is told as `limit.reached` as well."""


@dataclass(frozen=True, slots=True)
class _Crossing:
    """`meter` is None for one about money."""

    alert: Alert
    meter: Meter | None
    period: Period
    customer: Customer

    @property
    def is_full(self) -> bool:
        return self.alert.kind == "percent" and self.alert.value >= FULL


def tell_of_alerts(session: Session, catalog: Catalog, alert_ids: Collection[int], *, now: datetime) -> None:
    """Write down what is to be sent of these alerts. An e-mail a batch and customer, a webhook for each alert."""
    if not alert_ids:
        return
    query = (
        select(Alert, MeterRow.key, Period, Customer)
        .join(MeterRow, MeterRow.id == Alert.meter_id, isouter=True)
        .join(Period, Period.id == Alert.period_id)
        .join(Customer, Customer.id == Alert.customer_id)
        .where(Alert.id.in_(alert_ids))
        .order_by(Alert.customer_id, MeterRow.key.nulls_last(), Alert.kind, Alert.value)
    )
    crossings = [
        _Crossing(alert, None if key is None else catalog.meters[key], period, customer)
        for alert, key, period, customer in session.execute(query)
    ]
    messages = [
        Message(one.customer.id, event, _data(one), alert_id=one.alert.id)
        for one in crossings
        for event in ("alert.crossed", "limit.reached")
        if event == "alert.crossed" or (one.alert.kind == "percent" and one.alert.value == FULL)
    ]
    tell(session, messages, now=now)
    for customer, group in groupby(crossings, key=lambda one: one.customer):
        _write(session, customer, list(group), now)


def _write(session: Session, customer: Customer, crossings: Sequence[_Crossing], now: datetime) -> None:
    lines = [_line(one) for one in crossings]
    first = max(crossings, key=_weight)
    body = "\n".join(
        [f"{customer.name} has crossed these thresholds:", "", *lines, "", "They stand on the page Alerts."]
    )
    write_to_managers(
        session,
        customer,
        subject=f"{customer.name}, {_subject(first)}",
        body=body + "\n",
        now=now,
        alert_ids=[one.alert.id for one in crossings],
    )


def _weight(one: _Crossing) -> tuple[bool, bool, bool, Decimal]:
    """What the subject tells of: a limit that is reached before money, money before a percent, then a quantity."""
    return one.is_full, one.alert.kind == "money", one.alert.kind == "percent", one.alert.value


def _subject(one: _Crossing) -> str:
    alert, meter = one.alert, one.meter
    if meter is None:
        return f"the bill: {_money(alert.value, alert.currency)} reached"
    if alert.kind == "quantity":
        return f"{meter.name}: {alert.value:,f} {meter.unit} reached"
    return f"{meter.name}: {'limit reached' if one.is_full else f'{alert.value:f}% of the limit used'}"


def _line(one: _Crossing) -> str:
    alert, meter = one.alert, one.meter
    if meter is None:
        assert alert.total is not None
        total = _money(alert.total, alert.currency)
        return f"The bill of this period: {_money(alert.value, alert.currency)} (it has come to {total})"
    used = f"{_quantity(meter, alert.units):,f} used"
    if alert.limit_units is None:
        return f"{meter.name}: {alert.value:,f} {meter.unit} ({used})"
    limit = f"{_quantity(meter, alert.limit_units):,f} {meter.unit}"
    return f"{meter.name}: {alert.value:f}% of the limit of {limit} ({used})"


def _data(one: _Crossing) -> dict[str, Any]:
    """Quantities and money are decimals as text, quantities in the meter's unit: every digit arrives."""
    return {
        "alert": one.alert.id,
        "customer": one.customer.key,
        "kind": one.alert.kind,
        **_facts(one.alert, one.meter),
        "period_starts_at": _instant(one.period.starts_at),
        "period_ends_at": _instant(one.period.ends_at),
        "crossed_at": _instant(one.alert.crossed_at),
    }


def _facts(alert: Alert, meter: Meter | None) -> dict[str, Any]:
    if meter is None:
        return {"amount": _plain(alert.value, alert.currency), "currency": alert.currency, "total": f"{alert.total:f}"}
    of_meter = {"meter": meter.key, "unit": meter.unit}
    used = f"{_quantity(meter, alert.units):f}"
    if alert.kind == "quantity":
        return {**of_meter, "quantity": f"{alert.value:f}", "used": used}
    return {
        **of_meter,
        "percent": int(alert.value),
        "used": used,
        "limit": f"{_quantity(meter, alert.limit_units):f}",
    }


def _quantity(meter: Meter, units: int | None) -> Decimal:
    assert units is not None
    return meter.to_quantity(units)


def _money(amount: Decimal, currency: str | None) -> str:
    return f"{currency} {round(amount, minor_digits(currency or '')):,f}"


def _plain(amount: Decimal, currency: str | None) -> str:
    return f"{round(amount, minor_digits(currency or '')):f}"


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
