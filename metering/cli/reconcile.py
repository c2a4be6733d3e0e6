"""`stripe status` and `stripe reconcile`: where reporting stands, and whether Stripe agrees."""

from dataclasses import asdict
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import click

from metering.cli.common import counted, current_metering, explained, json_option, print_json, show_figures
from metering.runtime import Runtime
from metering.stripe_sync.reconcile import Compared, Scope, reconcile
from metering.stripe_sync.standing import stripe_standing, without_stripe_id, without_subscription


@click.command("status")
@json_option
def status(as_json: bool) -> None:
    """Where reporting stands: what waits and why, who has no Stripe id or no subscription, what the last comparisons of
    each customer found.
    """
    runtime = current_metering().runtime
    with explained():
        found = _status(runtime)
    if as_json:
        print_json(found)
        return
    click.echo(
        found["stopped"] or ("METERING_STRIPE is off" if runtime.settings.stripe == "off" else "reporting goes on")
    )
    show_figures(found["figures"])
    for one in found["without_stripe_id"]:
        click.echo(f"no Stripe id: {one['customer']} owes {one['units']} of {one['meter']} in {counted(one, 'hour')}")
    for one in found["without_subscription"]:
        click.echo(
            f"no subscription: {one['customer']} (plan {one['plan']}) used {one['units']} of {one['meter']} "
            f"in {counted(one, 'hour')}, which nobody bills"
        )
    for one in found["parked"]:
        click.echo(f"parked: {counted(one, 'row')} of {one['meter']}: {one['reason']}")
    for one in found["doubled"]:
        click.echo(f"billed twice: {one['customer']} has {' and '.join(one['subscriptions'])} (`stripe end-double`)")
    for one in found["differences"]:
        click.echo(
            f"{one['customer']} {one['meter']} since {one['period']:%Y-%m-%d}: "
            f"{'; '.join(one['causes'])} ({one['done']})"
        )


def _status(runtime: Runtime) -> dict[str, Any]:
    with runtime.transaction() as session:
        found = stripe_standing(session, runtime)
        catalog, now = runtime.catalog, runtime.clock()
        nameless, unsubscribed = without_stripe_id(session, catalog, now), without_subscription(session, catalog, now)
    return {
        "stopped": found.stopped.message if found.stopped else None,
        "figures": found.figures,
        "without_stripe_id": nameless,
        "without_subscription": unsubscribed,
        "parked": found.parked,
        "doubled": [asdict(one) for one in found.doubled],
        "differences": [
            {
                "customer": one.customer,
                "meter": one.meter,
                "period": one.period_starts_at,
                "causes": one.causes,
                "done": one.done,
                "needs_operator": one.needs_operator,
            }
            for one in found.differences
        ],
    }


@click.command("reconcile")
@click.option("--customer", default=None, help="Only this one.")
@click.option("--period", default=None, metavar="DAY", help="Only periods that hold this day (UTC, 2026-11-30).")
@json_option
def reconcile_command(customer: str | None, period: str | None, as_json: bool) -> None:
    """Compare with Stripe, now; each difference with its cause and what was done. Exit status 1: you must decide."""
    metering = current_metering()
    if metering.settings.stripe == "off":
        raise click.ClickException("METERING_STRIPE is off: there is nothing to compare with")
    with explained():
        run, found = reconcile(metering.runtime, scope=Scope(customer=customer, moment=_noon(period)))
    if as_json:
        print_json(
            {
                "account": run.account,
                "started_at": run.started_at,
                "compared": run.compared,
                "series": list(map(_json, found)),
            }
        )
    else:
        click.echo(f"{run.compared} compared, {sum(one.differs for one in found)} differ")
        for one in found:
            if one.differs:
                _print(one)
    if any(one.explained.needs_operator for one in found):
        click.get_current_context().exit(1)


def _noon(day: str | None) -> datetime | None:
    if day is None:
        return None
    try:
        return datetime.combine(date.fromisoformat(day), time(12), UTC)
    except ValueError:
        raise click.UsageError(f"--period: {day!r} is no day such as 2026-11-30") from None


def _json(one: Compared) -> dict[str, Any]:
    books = one.books
    return {
        "customer": books.customer,
        "meter": books.meter,
        "period": {"starts_at": books.starts_at, "ends_at": books.ends_at},
        "used": books.used,
        "reported": books.reported,
        "at_stripe": one.at_stripe,
        "estimated": one.estimated,
        "invoiced": one.invoiced,
        "causes": list(one.explained.causes),
        "done": one.done,
        "needs_operator": one.explained.needs_operator,
    }


def _print(one: Compared) -> None:
    books = one.books
    click.echo(f"{books.customer} {books.meter}, {books.starts_at:%Y-%m-%d} to {books.ends_at:%Y-%m-%d}")
    figures = {"used": books.used, "reported": books.reported, "at Stripe": one.at_stripe}
    figures |= {"estimated": one.estimated, "invoiced": one.invoiced}
    click.echo("  " + ", ".join(f"{name} {_shown(value)}" for name, value in figures.items()))
    click.echo(f"  {'; '.join(one.explained.causes)}")
    click.echo(f"  {one.done}")


def _shown(value: int | Decimal | None) -> str:
    return "unknown" if value is None else f"{Decimal(value):f}".removesuffix(".0")
