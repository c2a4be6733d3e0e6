"""What the bill page shows: each line with the usage behind it, and invoices beside our own figures. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from decimal import Decimal

from metering import humanize, quantities
from metering.billing.estimate import Estimate, EstimateLine
from metering.billing.pricing import PricedLine, PricedStep
from metering.catalog import Catalog, Meter
from metering.clock import MICROSECOND
from metering.dashboard.view_models import icon_for
from metering.models import Invoice
from metering.store.usage_query import UsageRow
from metering.stripe_sync.invoices import InvoiceLine

STATUSES = {
    "open": ("accent", "Open"),
    "paid": ("ok", "Paid"),
    "uncollectible": ("danger", "Uncollectible"),
    "void": ("neutral", "Void"),
}
MEASURES = {"time_weighted": "Mean of the day", "maximum": "Most on the day"}
"""What a level's day is shown as, by how it is billed."""

AGGREGATIONS = {"time_weighted": "time_weighted", "maximum": "max"}


@dataclass(frozen=True, slots=True)
class Day:
    """`share`: of the highest day, in percent."""

    label: str
    starts_at: datetime
    value: str
    exact: str
    share: Decimal


@dataclass(frozen=True, slots=True)
class Step:
    """What one tier priced."""

    label: str
    quantity: str
    price: str
    amount: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line with a price. `sum_text` says how the amount comes about, `steps` do where tiers price it."""

    meter: str
    name: str
    used: str
    amount: str
    expected: str | None
    sum_text: str
    steps: tuple[Step, ...]
    measure: str
    days: tuple[Day, ...]
    icon: str


@dataclass(frozen=True, slots=True)
class Bill:
    """The running period, if it ended at `as_of`. `forecast` is None where there is none.

    `subscribed`: a subscription bills fees in advance, and usage when the period has ended.
    """

    period_text: str
    as_of_text: str
    currency: str
    fee_name: str
    fee: str
    lines: tuple[Line, ...]
    total: str
    subscribed: bool
    forecast: str | None
    forecast_text: str | None


@dataclass(frozen=True, slots=True)
class InvoiceRow:
    id: int
    number: str
    period: str
    total: str
    status: str
    tone: str
    issued_text: str
    issued_at: datetime
    hosted_url: str | None
    pdf_url: str | None


@dataclass(frozen=True, slots=True)
class BilledLine:
    """A line of an invoice. `gives_back`: its amount is below zero."""

    text: str
    period: str
    amount: str
    gives_back: bool


@dataclass(frozen=True, slots=True)
class OwnLine:
    """A meter by our books beside what the invoice bills for it; `agrees` is None where it has no such line."""

    name: str
    used: str
    ours: str
    billed: str
    agrees: bool | None


@dataclass(frozen=True, slots=True)
class InvoiceView:
    """`lines` is None while Stripe does not answer; `own` where the invoice bills no usage."""

    row: InvoiceRow
    lines: tuple[BilledLine, ...] | None
    own_period: str | None
    own: tuple[OwnLine, ...] | None
    settled: tuple[tuple[str, str], ...]


def measured(meter: Meter) -> Meter:
    """The meter as its days are read: a level by what it is billed by."""
    if meter.bills_as is None:
        return meter
    return meter.model_copy(update={"aggregation": AGGREGATIONS[meter.bills_as]})


def bill(
    catalog: Catalog,
    estimate: Estimate,
    expected: Estimate | None,
    days: Mapping[str, Sequence[UsageRow]],
    where: tzinfo,
    *,
    subscribed: bool,
) -> Bill:
    """`days`: what was used in each, by meter."""
    fee = next(line for line in estimate.lines if line.usage is None)
    later = {line.meter: line.amount for line in expected.lines} if expected else {}
    return Bill(
        period_text=humanize.period(estimate.starts_at, estimate.ends_at, where),
        as_of_text=humanize.moment(estimate.as_of, where),
        currency=estimate.currency,
        fee_name=fee.name,
        fee=humanize.money(fee.amount, estimate.currency),
        lines=tuple(
            _line(catalog.meters[line.usage.meter], line, line.usage, later.get(line.meter), days, where)
            for line in estimate.lines
            if line.usage is not None
        ),
        total=humanize.money(estimate.total, estimate.currency),
        subscribed=subscribed,
        forecast=humanize.money(expected.total, estimate.currency) if expected else None,
        forecast_text=f"expected by {humanize.day(estimate.ends_at - MICROSECOND, where)}" if expected else None,
    )


def _line(
    meter: Meter,
    line: EstimateLine,
    priced: PricedLine,
    later: Decimal | None,
    days: Mapping[str, Sequence[UsageRow]],
    where: tzinfo,
) -> Line:
    return Line(
        meter=meter.key,
        name=line.name,
        used=_charged(priced, priced.quantity),
        amount=humanize.money(line.amount, priced.currency),
        expected=None if later is None else humanize.money(later, priced.currency),
        sum_text=_sum_text(priced),
        steps=tuple(_steps(priced)),
        measure=MEASURES.get(meter.bills_as or "", "Used"),
        days=_days(meter, days.get(meter.key, ()), where),
        icon=icon_for(meter.key),
    )


def _charged(priced: PricedLine, quantity: Decimal) -> str:
    return f"{quantities.charged(quantity)} {quantities.unit_word(priced.unit, quantity)}"


def _sum_text(priced: PricedLine) -> str:
    """ "12,431 API calls used, 10,000 included: 2,431 × $0.001 = $2.43"."""
    used = f"{_charged(priced, priced.quantity)} used"
    if priced.included:
        used += f", {quantities.charged(priced.included)} included"
    if not priced.billable:
        return f"{used}: nothing to pay."
    if priced.unit_price is None:
        return f"{used}: {_charged(priced, priced.billable)} in tiers."
    price = humanize.unit_price(priced.unit_price, priced.currency)
    amount = humanize.money(priced.amount, priced.currency)
    return f"{used}: {quantities.charged(priced.billable)} × {price} = {amount}"


def _steps(priced: PricedLine) -> list[Step]:
    found: list[Step] = []
    for step in priced.steps:
        bound = "The rest" if step.up_to is None else f"Up to {quantities.charged(step.up_to)}"
        amount = humanize.money(step.amount, priced.currency)
        found.append(Step(bound, quantities.charged(step.quantity), _tier_price(step, priced.currency), amount))
    return found


def _tier_price(step: PricedStep, currency: str) -> str:
    price = f"× {humanize.unit_price(step.unit_price, currency)}"
    return f"{price} + {humanize.money(step.flat, currency)}" if step.flat else price


def _days(meter: Meter, rows: Sequence[UsageRow], where: tzinfo) -> tuple[Day, ...]:
    used = [row for row in rows if row.value]
    most = max((row.value for row in used), default=Decimal(0))
    return tuple(
        Day(
            label=humanize.short_day(row.window_start, where),
            starts_at=row.window_start,
            value=quantities.bare(meter, round(row.value, quantities.SHOWN_DIGITS)),
            exact=quantities.exact(meter, round(row.value, quantities.SHOWN_DIGITS)),
            share=max(row.value, Decimal(0)) * 100 / most if most > 0 else Decimal(0),
        )
        for row in used
    )


def invoice_rows(invoices: Sequence[Invoice], where: tzinfo) -> tuple[InvoiceRow, ...]:
    return tuple(_invoice_row(one, where) for one in invoices)


def _invoice_row(invoice: Invoice, where: tzinfo) -> InvoiceRow:
    tone, status = STATUSES.get(invoice.status, ("neutral", invoice.status))
    return InvoiceRow(
        id=invoice.id,
        number=invoice.number or "—",
        period=_span(invoice.period_starts_at, invoice.period_ends_at, where),
        total=humanize.money(invoice.total, invoice.currency),
        status=status,
        tone=tone,
        issued_text=humanize.day(invoice.issued_at, where),
        issued_at=invoice.issued_at,
        hosted_url=invoice.hosted_url,
        pdf_url=invoice.pdf_url,
    )


def _span(starts_at: datetime, ends_at: datetime, where: tzinfo) -> str:
    """The first invoice of a subscription is of a moment: it bills what is paid in advance."""
    if starts_at == ends_at:
        return f"From {humanize.day(starts_at, where)} on"
    return f"{humanize.day(starts_at, where)} – {humanize.day(ends_at, where)}"


def invoice_view(
    invoice: Invoice, lines: Sequence[InvoiceLine] | None, own: Estimate | None, where: tzinfo
) -> InvoiceView:
    """`own`: the bill of the usage that it bills, by our books."""
    return InvoiceView(
        row=_invoice_row(invoice, where),
        lines=None if lines is None else tuple(_billed_line(line, invoice.currency, where) for line in lines),
        own_period=_span(own.starts_at, own.ends_at, where) if own else None,
        own=_own_lines(own, lines) if own else None,
        settled=_settled(invoice),
    )


def _billed_line(line: InvoiceLine, currency: str, where: tzinfo) -> BilledLine:
    amount = humanize.money(line.amount, currency)
    return BilledLine(line.text, _span(line.starts_at, line.ends_at, where), amount, line.amount < 0)


def _own_lines(own: Estimate, lines: Sequence[InvoiceLine] | None) -> tuple[OwnLine, ...]:
    billed: dict[str, Decimal] = {}
    for line in lines or ():
        if line.meter is not None and line.starts_at == own.starts_at:
            billed[line.meter] = billed.get(line.meter, Decimal(0)) + line.amount
    return tuple(
        OwnLine(
            name=line.name,
            used=_charged(line.usage, line.usage.quantity),
            ours=humanize.money(line.amount, own.currency),
            billed=humanize.money(billed[line.usage.meter], own.currency) if line.usage.meter in billed else "—",
            agrees=billed[line.usage.meter] == line.amount if line.usage.meter in billed else None,
        )
        for line in own.lines
        if line.usage is not None
    )


def _settled(invoice: Invoice) -> tuple[tuple[str, str], ...]:
    """What became of the total: credit that was kept or used, what was paid, what is due."""
    found: list[tuple[str, Decimal]] = []
    if invoice.total < 0:
        found.append(("Kept as credit for the next invoices", -invoice.total))
    elif invoice.amount_due < invoice.total:
        found.append(("Credit used", invoice.amount_due - invoice.total))
    if invoice.amount_paid:
        found.append(("Paid", invoice.amount_paid))
    if invoice.status == "open":
        found.append(("Due", invoice.amount_due - invoice.amount_paid))
    return tuple((label, humanize.money(amount, invoice.currency)) for label, amount in found)
