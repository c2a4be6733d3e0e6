"""Invoices at Stripe, mirrored for the customer's list: fetched under a lock, so the newest state is what is kept.
Their lines are not kept: they are asked for when somebody looks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import delete, select, tuple_
from sqlalchemy.orm import Session

from metering.errors import NotFound
from metering.models import Customer, Invoice, StripePrice
from metering.money import minor_digits
from metering.notify.deliveries import Message, tell
from metering.stripe_sync.asking import asking, moment
from metering.stripe_sync.customers import ensure_link, find_ours
from metering.stripe_sync.gateway import StripeApi
from metering.stripe_sync.mirror import lock_object

DRAFT, PAID = "draft", "paid"
SHOWN = ("open", "paid", "uncollectible", "void")
"""A draft is none yet: Stripe goes on adding to it."""


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """A line as Stripe has it, for `[starts_at, ends_at)`. `amount` is in the currency's major unit, below zero where
    it gives back. `meter`: of a metered price of ours; usage in tiers is a line a tier.
    """

    text: str
    amount: Decimal
    starts_at: datetime
    ends_at: datetime
    meter: str | None


def mirror_invoice(session: Session, api: StripeApi, stripe_id: str, *, now: datetime) -> str | None:
    """Fetch an invoice and keep what is shown of it; why not, where it is none of ours. The caller commits.

    Raises StripeFailed.
    """
    lock_object(session, api.account, stripe_id)
    with asking():
        invoice: Any = api.client.v1.invoices.retrieve(stripe_id)
    if getattr(invoice, "deleted", False):
        session.execute(delete(Invoice).where(Invoice.account == api.account, Invoice.stripe_id == stripe_id))
        return None
    customer = invoice.customer
    customer_id = customer if isinstance(customer, str) else customer.id
    ours = find_ours(session, api, customer_id)
    if ours is None:
        return f"{customer_id} is no customer of ours"
    ensure_link(session, ours, customer_id, now=now)
    query = select(Invoice).where(Invoice.account == api.account, Invoice.stripe_id == stripe_id)
    row = session.scalars(query.execution_options(populate_existing=True)).one_or_none()
    row = row or Invoice(account=api.account, stripe_id=stripe_id)
    before = row.status or DRAFT
    row.customer_id, row.fetched_at = ours.id, now
    _copy(row, invoice)
    session.add(row)
    session.flush()
    _tell(session, ours, row, before, now)
    return None


def _tell(session: Session, customer: Customer, row: Invoice, before: str, now: datetime) -> None:
    """Each once: a state is told of in the transaction that first mirrors it."""
    told = {
        "customer": customer.key,
        "number": row.number,
        "status": row.status,
        "currency": row.currency,
        "total": f"{row.total:f}",
        "url": row.hosted_url,
    }
    events = [
        event
        for event, new in (
            ("invoice.issued", before == DRAFT and row.status in SHOWN),
            ("invoice.paid", before != PAID and row.status == PAID),
        )
        if new
    ]
    tell(session, [Message(customer.id, event, told) for event in events], now=now)


def list_invoices(
    session: Session, customer_id: int, *, before: int | None = None, limit: int = 50
) -> Sequence[Invoice]:
    """Those that were issued, newest first; those behind the invoice with the id `before`. Drafts are left out."""
    query = select(Invoice).where(Invoice.customer_id == customer_id, Invoice.status.in_(SHOWN))
    place = tuple_(Invoice.issued_at, Invoice.id)
    if before is not None:
        last = select(Invoice.issued_at, Invoice.id).where(Invoice.customer_id == customer_id, Invoice.id == before)
        query = query.where(place < last.scalar_subquery())
    return session.scalars(query.order_by(Invoice.issued_at.desc(), Invoice.id.desc()).limit(limit)).all()


def find_invoice(session: Session, customer_id: int, id: int) -> Invoice:
    """Raises NotFound: no such invoice was issued to this customer."""
    query = select(Invoice).where(Invoice.customer_id == customer_id, Invoice.id == id, Invoice.status.in_(SHOWN))
    found = session.scalars(query).one_or_none()
    if found is None:
        raise NotFound("there is no such invoice")
    return found


def invoice_lines(session: Session, api: StripeApi, invoice: Invoice) -> list[InvoiceLine]:
    """Its lines, asked of Stripe. Raises StripeFailed."""
    with asking():
        asked = api.client.v1.invoices.line_items.list(invoice.stripe_id, {"limit": 100})
        lines: list[Any] = list(asked.auto_paging_iter())
    prices = select(StripePrice.stripe_id, StripePrice.meter).where(StripePrice.account == invoice.account)
    meters = dict(session.execute(prices).all())
    digits = minor_digits(invoice.currency)
    return [
        InvoiceLine(
            text=line.description or "",
            amount=Decimal(line.amount).scaleb(-digits),
            starts_at=moment(line.period.start),
            ends_at=moment(line.period.end),
            meter=meters.get(_price_of(line)),
        )
        for line in lines
    ]


def _price_of(line: Any) -> str:
    price = line.pricing.price_details.price if line.pricing and line.pricing.price_details else ""
    return price if isinstance(price, str) else str(price.id)


def _copy(row: Invoice, invoice: Any) -> None:
    row.number, row.status = invoice.number, invoice.status or DRAFT
    row.period_starts_at, row.period_ends_at = moment(invoice.period_start), moment(invoice.period_end)
    row.currency = invoice.currency.upper()
    digits = minor_digits(row.currency)
    row.total = Decimal(invoice.total).scaleb(-digits)
    row.amount_due = Decimal(invoice.amount_due).scaleb(-digits)
    row.amount_paid = Decimal(invoice.amount_paid).scaleb(-digits)
    row.hosted_url, row.pdf_url = invoice.hosted_invoice_url, invoice.invoice_pdf
    row.issued_at = moment(invoice.status_transitions.finalized_at or invoice.created)
