"""Alerts that were just written down, told to whom they concern: an e-mail and a webhook, in the same transaction."""

from collections.abc import Collection
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.catalog import Catalog, Meter
from metering.models import Alert, Customer, MeterRow, Period
from metering.notify.audience import write_to_managers
from metering.notify.deliveries import Message, tell

FULL = 100
"""Percent. The threshold that is told as `limit.reached` as well."""


def tell_of_alerts(session: Session, catalog: Catalog, alert_ids: Collection[int], *, now: datetime) -> None:
    """Write down what is to be sent of these alerts. An e-mail a batch and customer, a webhook for each alert."""
    if not alert_ids:
        return
    query = (
        select(Alert, MeterRow.key, Period, Customer)
        .join(MeterRow, MeterRow.id == Alert.meter_id)
        .join(Period, Period.id == Alert.period_id)
        .join(Customer, Customer.id == Alert.customer_id)
        .where(Alert.id.in_(alert_ids))
        .order_by(Alert.customer_id, MeterRow.key, Alert.percent)
    )
    rows = [(alert, catalog.meters[key], period, customer) for alert, key, period, customer in session.execute(query)]
    messages = [
        Message(alert.customer_id, event, _data(alert, meter, period, customer))
        for alert, meter, period, customer in rows
        for event in ("alert.crossed", "limit.reached")
        if event == "alert.crossed" or alert.percent == FULL
    ]
    tell(session, messages, now=now)
    for customer, group in groupby(rows, key=lambda row: row[3]):
        _write(session, customer, [(alert, meter) for alert, meter, *_ in group], now)


def _write(session: Session, customer: Customer, alerts: list[tuple[Alert, Meter]], now: datetime) -> None:
    lines = [
        f"{meter.name}: {alert.percent}% of the limit of {meter.to_quantity(alert.limit_units):,f} {meter.unit} "
        f"({meter.to_quantity(alert.units):,f} used)"
        for alert, meter in alerts
    ]
    highest, meter = max(alerts, key=lambda pair: pair[0].percent)
    reached = "limit reached" if highest.percent >= FULL else f"{highest.percent}% of the limit used"
    body = "\n".join(
        [f"{customer.name} has crossed these thresholds:", "", *lines, "", "They stand on the page Alerts."]
    )
    write_to_managers(
        session, customer, subject=f"{customer.name}, {meter.name}: {reached}", body=body + "\n", now=now, alerts=True
    )


def _data(alert: Alert, meter: Meter, period: Period, customer: Customer) -> dict[str, Any]:
    """Quantities are decimals as text, in the meter's unit: every digit arrives."""
    return {
        "alert": alert.id,
        "customer": customer.key,
        "meter": meter.key,
        "unit": meter.unit,
        "percent": alert.percent,
        "used": f"{meter.to_quantity(alert.units):f}",
        "limit": f"{meter.to_quantity(alert.limit_units):f}",
        "period_starts_at": _instant(period.starts_at),
        "period_ends_at": _instant(period.ends_at),
        "crossed_at": _instant(alert.crossed_at),
    }


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
