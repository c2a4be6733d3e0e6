"""From what services answer to what the pages show: usage cards, the bill so far, keys, the frame. Pure."""

from collections.abc import Sequence
from datetime import datetime, tzinfo
from decimal import Decimal
from typing import cast

from metering import humanize, quantities
from metering.billing.estimate import Estimate
from metering.billing.estimate import EstimateLine as BillLine
from metering.billing.pricing import PricedLine
from metering.billing.rhythm import zone
from metering.catalog import Catalog, Meter
from metering.clock import MICROSECOND
from metering.dashboard.access import Access
from metering.dashboard.figures import Figures
from metering.dashboard.history import History
from metering.dashboard.outlook import Outlook
from metering.dashboard.view_models import (
    ActivityView,
    AlertsView,
    EstimateLine,
    EstimateOutage,
    EstimateView,
    KeyView,
    LimitKind,
    OverviewView,
    ShellView,
    UsageCard,
    UsageView,
    bar_for,
    icon_for,
    percent_of,
    state_for,
)
from metering.models import ApiKey
from metering.service import MeterUsage


def shell(access: Access) -> ShellView:
    as_operator = access.role is None
    return ShellView(access.user, access.customer, access.customers, as_operator=as_operator)


def overview(
    access: Access,
    catalog: Catalog,
    figures: Figures,
    *,
    usage: UsageView,
    alerts: AlertsView,
    estimate: EstimateView | EstimateOutage,
    activity: ActivityView,
) -> OverviewView:
    span = figures.summary.period
    return OverviewView(
        customer_key=access.customer_key,
        customer_name=access.customer_name,
        plan_name=plan_name(catalog, figures.summary.plan),
        period_start=span.starts_at,
        period_end=span.ends_at,
        period_text=humanize.period(span.starts_at, span.ends_at, zone(access.timezone)),
        usage=usage,
        alerts=alerts,
        estimate=estimate,
        activity=activity,
    )


def plan_name(catalog: Catalog, key: str) -> str:
    plan = catalog.plans.get(key)
    return plan.name if plan else key


# -- usage -------------------------------------------------------------------------------------------------------------


def usage_view(
    access: Access,
    catalog: Catalog,
    figures: Figures,
    bill: Estimate | None,
    history: History | None,
    *,
    started: bool,
    now: datetime,
) -> UsageView:
    """The cards. `bill` and `history` are None while PostgreSQL is away; `started`: something was used, once."""
    costs = overage_costs(bill)
    outlook = Outlook(figures.summary.period, history, zone(access.timezone), now)
    return UsageView(
        customer_key=access.customer_key,
        cards=tuple(
            usage_card(catalog, figures.summary.plan, one, costs.get(one.meter), outlook)
            for one in figures.summary.meters
            if catalog.meters[one.meter].counts_live and _concerns(catalog, one)
        ),
        has_usage=started,
        stale_text=None if figures.live else stale_text(figures.as_of, zone(access.timezone)),
    )


def _concerns(catalog: Catalog, usage: MeterUsage) -> bool:
    """A meter made at run time is everybody's, though most customers never hear of it: it has a card with usage or a
    limit."""
    return bool(usage.meter not in catalog.made_at_run_time or usage.used or usage.held or usage.limit is not None)


def usage_card(catalog: Catalog, plan: str, usage: MeterUsage, cost: str | None, outlook: Outlook) -> UsageCard:
    meter, price = catalog.meters[usage.meter], catalog.price(plan, usage.meter)
    percent = percent_of(usage.used, usage.limit)
    forecast, alarms = outlook.forecast(meter, usage) or (None, False)
    all_included = quantities.all_included(meter, price, usage.limit, usage.limit_mode)

    def texts(quantity: Decimal | None) -> tuple[str | None, str | None]:
        if quantity is None:
            return None, None
        return quantities.short(meter, quantity), quantities.exact(meter, quantity)

    limit, limit_exact = texts(usage.limit)
    remaining, remaining_exact = texts(usage.remaining)
    held, held_exact = texts(usage.held or None)
    return UsageCard(
        meter=meter.key,
        name=meter.name,
        unit=quantities.unit_beside(meter, usage.used if usage.limit is None else usage.limit),
        used=quantities.short(meter, usage.used),
        used_exact=quantities.exact(meter, usage.used),
        bar=bar_for(
            usage.used,
            limit=usage.limit,
            included=quantities.included_quantity(meter, price),
            held=usage.held,
        ),
        state="ok" if _is_the_only_one(meter, usage) else state_for(percent),
        kind="level" if meter.is_level else "resets",
        limit_kind=cast(LimitKind, usage.limit_mode),
        limit=limit,
        limit_exact=limit_exact,
        included=quantities.included_text(meter, price),
        included_exact=quantities.included_exact(meter, price),
        remaining=remaining,
        remaining_exact=remaining_exact,
        held=held,
        held_exact=held_exact,
        percent=percent,
        percent_text=None if percent is None else humanize.percent(percent),
        resets_at=usage.resets_at,
        resets_text=None if usage.resets_at is None else f"Resets {humanize.relative(usage.resets_at, outlook.now)}",
        overage_cost=None if all_included else cost,
        overshoot=usage.limit is not None and usage.used > usage.limit,
        forecast=forecast,
        forecast_alarms=alarms,
        spark=outlook.spark(meter),
        unused=not usage.used and not meter.is_level,
        all_included=all_included,
        icon=icon_for(meter.key),
    )


def _is_the_only_one(meter: Meter, usage: MeterUsage) -> bool:
    """The one seat of a plan is taken by whoever looks: that it is full is how it is meant."""
    return meter.is_level and usage.limit == usage.used == 1


def overage_costs(bill: Estimate | None) -> dict[str, str]:
    """What each meter costs so far beyond what is included, by its key."""
    if bill is None:
        return {}
    return {line.meter: humanize.money(line.amount, bill.currency) for line in bill.lines if line.meter is not None}


def stale_text(as_of: datetime | None, where: tzinfo) -> str:
    return "Last known figures" + ("" if as_of is None else f", of {humanize.moment(as_of, where)}")


# -- the bill so far ---------------------------------------------------------------------------------------------------


def estimate_view(
    access: Access, bill: Estimate | None, expected: Estimate | None = None
) -> EstimateView | EstimateOutage:
    """`expected`: the forecast of the bill, where there is one."""
    if bill is None:
        return EstimateOutage(access.customer_key, "The bill so far can’t be read right now. It comes back by itself.")
    where = zone(access.timezone)
    fee = next(line for line in bill.lines if line.usage is None)
    return EstimateView(
        customer_key=access.customer_key,
        period_text=humanize.period(bill.starts_at, bill.ends_at, where),
        lines=tuple(_bill_line(line, line.usage) for line in bill.lines if line.usage is not None),
        base_fee_label=fee.name,
        base_fee=humanize.money(fee.amount, bill.currency),
        total=humanize.money(bill.total, bill.currency),
        currency=bill.currency,
        as_of_text=humanize.moment(bill.as_of, where),
        forecast=humanize.money(expected.total, bill.currency) if expected else None,
        forecast_text=f"expected by {humanize.day(bill.ends_at - MICROSECOND, where)}" if expected else None,
    )


def _bill_line(line: BillLine, priced: PricedLine) -> EstimateLine:
    return EstimateLine(
        label=line.name,
        quantity=quantities.charged(priced.quantity),
        included=quantities.charged(priced.included),
        billable=quantities.charged(priced.billable),
        unit_price=_unit_price(priced),
        amount=humanize.money(line.amount, priced.currency),
        meter=line.meter,
    )


def _unit_price(priced: PricedLine) -> str:
    if priced.unit_price is None:
        return "In tiers"
    return f"{humanize.unit_price(priced.unit_price, priced.currency)} per {priced.unit}"


# -- keys --------------------------------------------------------------------------------------------------------------


def key_views(keys: Sequence[ApiKey], now: datetime, where: tzinfo) -> tuple[KeyView, ...]:
    """Keys that work first, then those that do not any more."""
    views = [key_view(key, now, where) for key in keys]
    return tuple(sorted(views, key=lambda view: bool(view.ended_text)))


def key_view(key: ApiKey, now: datetime, where: tzinfo) -> KeyView:
    replaced = key.expires_at is not None
    over = key.expires_at is not None and key.expires_at <= now
    return KeyView(
        id=str(key.id),
        name=key.name,
        prefix=key.prefix,
        scopes=tuple(key.scopes),
        created_at=key.created_at,
        created_text=humanize.relative(key.created_at, now).capitalize(),
        created_by=maker(key.created_by),
        last_used_at=key.last_used_at,
        last_used_text="Never" if key.last_used_at is None else humanize.relative(key.last_used_at, now).capitalize(),
        ended_text="Revoked" if key.revoked_at is not None else "Replaced" if over else None,
        until_text=humanize.moment(key.expires_at, where) if replaced and key.expires_at is not None else None,
    )


def maker(actor: str | None) -> str | None:
    """Who made a key, as a customer reads it: "by ada@acme.example"."""
    kind, _, name = (actor or "").partition(":")
    return {"user": f"by {name}", "key": "through the API", "cli": "by an operator"}.get(kind)
