"""The bill of a customer: the running period line by line, and what was invoiced."""

from contextlib import suppress
from datetime import datetime

from flask import render_template, request
from flask.typing import ResponseReturnValue
from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.billing.estimate import Estimate, estimate
from metering.billing.rhythm import zone
from metering.clock import MICROSECOND
from metering.dashboard import bill_views, presenters
from metering.dashboard.access import Access, current_metering, customer_page
from metering.dashboard.figures import from_database, read_estimate, read_figures
from metering.dashboard.history import expected_bill, read_history
from metering.dashboard.overview import blueprint
from metering.errors import ConfigurationError, IntakeUnavailable
from metering.extensions import db
from metering.models import Customer, Invoice, Period
from metering.store.usage_query import UsageQuery, UsageRow, query_usage
from metering.stripe_sync.gateway import StripeFailed
from metering.stripe_sync.invoices import InvoiceLine, find_invoice, invoice_lines, list_invoices
from metering.stripe_sync.mirror import running_subscription
from metering.stripe_sync.reporting import gateway_for

PAGE_OF_INVOICES = 24
CHARGED = ("active", "past_due")
"""In which states a subscription is charged for."""


@blueprint.get("/c/<customer_key>/bill")
@customer_page
def bill(access: Access) -> ResponseReturnValue:
    where, catalog = zone(access.timezone), current_metering().runtime.catalog
    found = read_estimate(access)
    shown, invoices, older = None, None, None
    if found is not None:
        expected = expected_bill(read_figures(access), found, read_history(access))
        days = from_database(lambda session: _days(session, access, found))
        shown = bill_views.bill(catalog, found, expected, days or {}, where, subscribed=_is_charged(access))
        before = request.args.get("before", type=int)
        page = from_database(
            lambda session: list_invoices(session, access.customer_id, before=before, limit=PAGE_OF_INVOICES + 1)
        )
        invoices = bill_views.invoice_rows((page or [])[:PAGE_OF_INVOICES], where)
        older = invoices[-1].id if page and len(page) > PAGE_OF_INVOICES else None
    return render_template(
        "dashboard/bill.html",
        bill=shown,
        invoices=invoices,
        older=older,
        customer_key=access.customer_key,
        shell=presenters.shell(access),
    )


@blueprint.get("/c/<customer_key>/bill/<int(max=9223372036854775807):invoice_id>")
@customer_page
def bill_invoice(access: Access, invoice_id: int) -> ResponseReturnValue:
    """One invoice, its lines as Stripe has them beside our own figures of the period that it bills."""
    if access.remembered:
        raise IntakeUnavailable("the database does not answer")
    session = db.session()
    invoice = find_invoice(session, access.customer_id, invoice_id)
    lines = _lines(session, invoice)
    own = _own(session, access, _billed_from(invoice, lines))
    return render_template(
        "dashboard/invoice.html",
        invoice=bill_views.invoice_view(invoice, lines, own, zone(access.timezone)),
        customer_key=access.customer_key,
        shell=presenters.shell(access),
    )


def _is_charged(access: Access) -> bool:
    """Whether a subscription bills the customer's fees ahead, and its usage when a period has ended."""
    settings = current_metering().settings
    running = from_database(lambda session: running_subscription(session, settings, access.customer_id))
    return running is not None and running.status in CHARGED and not running.collection_paused


def _days(session: Session, access: Access, found: Estimate) -> dict[str, list[UsageRow]]:
    """What was used each day of the period so far, in the customer's zone, by the meters that have a price."""
    runtime = current_metering().runtime
    now = runtime.clock()
    to = min(now + MICROSECOND, found.ends_at)  # what happens at this very instant is shown
    priced = [line.meter for line in found.lines if line.meter is not None]
    return {
        key: query_usage(
            session,
            UsageQuery(
                meter=bill_views.measured(runtime.catalog.meters[key]),
                from_=found.starts_at,
                to=to,
                window_size="DAY",
                timezone=zone(access.timezone),
                customers=[access.customer_key],
            ),
            now=now,
        )
        for key in priced
    }


def _lines(session: Session, invoice: Invoice) -> list[InvoiceLine] | None:
    settings = current_metering().runtime.settings
    if settings.stripe != "off":
        with suppress(StripeFailed, ConfigurationError):
            api = gateway_for(settings)
            if api.account == invoice.account:
                return invoice_lines(session, api, invoice)
    return None


def _billed_from(invoice: Invoice, lines: list[InvoiceLine] | None) -> datetime | None:
    """When the usage that it bills begins; None where it bills none."""
    if lines is not None:
        return min((line.starts_at for line in lines if line.meter is not None), default=None)
    return invoice.period_starts_at if invoice.period_starts_at < invoice.period_ends_at else None


def _own(session: Session, access: Access, starts_at: datetime | None) -> Estimate | None:
    if starts_at is None:
        return None
    runtime = current_metering().runtime
    of_then = select(Period).where(Period.customer_id == access.customer_id, Period.starts_at == starts_at)
    period = session.scalars(of_then).one_or_none()
    if period is None:
        return None
    with suppress(ConfigurationError):  # the plan of then is not in the catalog any more
        customer = session.get_one(Customer, access.customer_id)
        return estimate(session, runtime.catalog, customer, period, now=runtime.clock())
    return None
