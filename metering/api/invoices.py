"""Invoices of a customer, as Stripe issued them."""

from decimal import Decimal
from typing import Self

from flask import Blueprint

from metering.accounts.customers import find_customer
from metering.api.auth import current_metering, customer_in_reach
from metering.api.operation import operation
from metering.api.paging import PageQuery, page
from metering.api.shapes import Answer, CustomerKey, Instant, Money, Page
from metering.models import Invoice
from metering.money import round_money
from metering.stripe_sync.invoices import list_invoices

blueprint = Blueprint("api_invoices", __name__, url_prefix="/api/v1")


class InvoicesQuery(PageQuery):
    """`customer` may be left out by a key that belongs to one."""

    customer: CustomerKey | None = None


class InvoiceAnswer(Answer):
    """Amounts are in the currency's major unit. `status`: open, paid, uncollectible or void."""

    id: int
    stripe_id: str
    number: str | None
    status: str
    period_start: Instant
    period_end: Instant
    currency: str
    total: Money
    amount_due: Money
    amount_paid: Money
    hosted_url: str | None
    pdf_url: str | None
    issued_at: Instant

    @classmethod
    def of(cls, invoice: Invoice) -> Self:
        return cls(
            id=invoice.id,
            stripe_id=invoice.stripe_id,
            number=invoice.number,
            status=invoice.status,
            period_start=invoice.period_starts_at,
            period_end=invoice.period_ends_at,
            currency=invoice.currency,
            total=_money(invoice.total, invoice),
            amount_due=_money(invoice.amount_due, invoice),
            amount_paid=_money(invoice.amount_paid, invoice),
            hosted_url=invoice.hosted_url,
            pdf_url=invoice.pdf_url,
            issued_at=invoice.issued_at,
        )


def _money(amount: Decimal, invoice: Invoice) -> str:
    """With all places of its currency: PostgreSQL may leave zeros out."""
    return str(round_money(amount, invoice.currency))


@blueprint.get("/invoices")
@operation(
    "Invoices", scope="usage:read", query=InvoicesQuery, answers=Page[InvoiceAnswer], refuses=("unknown-customer",)
)
def list_all(query: InvoicesQuery) -> Page[InvoiceAnswer]:
    """The invoices that were issued, newest first; drafts are left out."""
    with current_metering().runtime.transaction() as session:
        found = find_customer(session, customer_in_reach(query.customer))
        rows = list_invoices(session, found.id, before=query.after_id, limit=query.limit + 1)
    return page(rows, query, lambda row: row.id, InvoiceAnswer.of)
