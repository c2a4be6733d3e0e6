"""Alerts that were just written down, told to whom they concern: an e-mail and a webhook, in the same transaction."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering import humanize, quantities
from metering.billing.rhythm import zone
from metering.catalog import Catalog, Meter
from metering.clock import zulu
from metering.models import Alert, Customer, MeterRow, Period
from metering.money import minor_digits
from metering.notify.audience import write_to_managers
from metering.notify.deliveries import Message, tell
from metering.notify.letters import letter

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


def tell_of_alerts(
    session: Session, catalog: Catalog, alert_ids: Collection[int], *, pages_url: str | None, now: datetime
) -> None:
    """Write down what is to be sent of these alerts. An e-mail a batch, customer and period, a webhook for each alert.

    `pages_url`: where the e-mail leads to; None where nobody knows the address of the pages.
    """
    if not alert_ids:
        return
    query = (
        select(Alert, MeterRow.key, Period, Customer)
        .join(MeterRow, MeterRow.id == Alert.meter_id, isouter=True)
        .join(Period, Period.id == Alert.period_id)
        .join(Customer, Customer.id == Alert.customer_id)
        .where(Alert.id.in_(alert_ids))
        .order_by(Alert.customer_id, Period.starts_at, MeterRow.key.nulls_last(), Alert.kind, Alert.value)
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
    for (customer, period), group in groupby(crossings, key=lambda one: (one.customer, one.period)):
        alerts = list(group)
        subject, body = letter(
            "alerts",
            customer=customer.name,
            first=_subject(max(alerts, key=_weight)),
            period=humanize.period(period.starts_at, period.ends_at, zone(customer.timezone)),
            lines=[_line(one) for one in alerts],
            pages=f"{pages_url}c/{customer.key}" if pages_url else None,
        )
        ids = [one.alert.id for one in alerts]
        write_to_managers(session, customer, subject=subject, body=body, now=now, alert_ids=ids)


def _weight(one: _Crossing) -> tuple[bool, bool, bool, Decimal]:
    """What the subject tells of: a limit that is reached before money, money before a percent, then a quantity."""
    return one.is_full, one.alert.kind == "money", one.alert.kind == "percent", one.alert.value


def _subject(one: _Crossing) -> str:
    alert, meter = one.alert, one.meter
    if meter is None:
        return f"the bill: {humanize.money(alert.value, alert.currency or '')} reached"
    if alert.kind == "quantity":
        return f"{meter.name}: {quantities.in_words(meter, alert.value)} reached"
    return f"{meter.name}: {'limit reached' if one.is_full else f'{alert.value:f}% of the limit used'}"


def _line(one: _Crossing) -> str:
    alert, meter = one.alert, one.meter
    if meter is None:
        assert alert.total is not None
        total = humanize.money(alert.total, alert.currency or "")
        return f"The bill of this period: {humanize.money(alert.value, alert.currency or '')} (it has come to {total})"
    used = f"{quantities.in_words(meter, _quantity(meter, alert.units))} used"
    if alert.limit_units is None:
        return f"{meter.name}: {quantities.in_words(meter, alert.value)} ({used})"
    limit = quantities.in_words(meter, _quantity(meter, alert.limit_units))
    return f"{meter.name}: {alert.value:f}% of the limit of {limit} ({used})"


def _data(one: _Crossing) -> dict[str, Any]:
    """Quantities and money are decimals as text, quantities in the meter's unit: every digit arrives."""
    return {
        "alert": one.alert.id,
        "customer": one.customer.key,
        "kind": one.alert.kind,
        **_facts(one.alert, one.meter),
        "period_starts_at": zulu(one.period.starts_at),
        "period_ends_at": zulu(one.period.ends_at),
        "crossed_at": zulu(one.alert.crossed_at),
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


def _plain(amount: Decimal, currency: str | None) -> str:
    return f"{round(amount, minor_digits(currency or '')):f}"
