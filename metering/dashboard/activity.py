"""What was counted last: the newest events of a customer, and how much the last minutes saw, however many there are."""

from metering import quantities
from metering.billing.rhythm import zone
from metering.catalog import Catalog
from metering.dashboard import pulse
from metering.dashboard.access import Access, current_metering
from metering.dashboard.figures import from_database
from metering.dashboard.view_models import ActivityRow, ActivityView, icon_for
from metering.store.event_list import EventFilter, StoredEvent, list_events

SHOWN = 8


def read(access: Access) -> ActivityView:
    wanted = EventFilter(customers=[access.customer_key])
    page = from_database(lambda session: list_events(session, wanted, limit=SHOWN))
    runtime = current_metering().runtime
    catalog = runtime.catalog
    rows = None if page is None else tuple(_row(access, catalog, one) for one in page.events)
    return ActivityView(access.customer_key, rows, pulse.read(access, catalog, runtime.clock()) if rows else None)


def _row(access: Access, catalog: Catalog, event: StoredEvent) -> ActivityRow:
    meter, local = catalog.meters.get(event.meter), event.time.astimezone(zone(access.timezone))
    path = event.properties.get("path")
    sign = "+" if event.op == "change" and event.quantity > 0 else ""
    return ActivityRow(
        id=event.digest,
        at=event.time,
        at_text=f"{local:%b} {local.day}, {local:%H:%M:%S}",
        meter=meter.name if meter else event.meter,
        quantity=sign + (quantities.in_words(meter, event.quantity) if meter else f"{event.quantity:f}"),
        what=path if isinstance(path, str) else event.source,
        icon=icon_for(event.meter),
        voided=event.voided_at is not None,
    )
