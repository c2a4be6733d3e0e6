"""`usage`, `status`, `verify`, `rebuild`, `events` and `set-aside`: looking, proving, mending."""

import sys
from decimal import Decimal

import click
from flask.cli import AppGroup

from metering.accounts.customers import find_customer
from metering.billing.rhythm import zone
from metering.cli.common import actor, current_metering, explained, json_option, print_json, show_figures
from metering.keeper import Keeper
from metering.service import MeterUsage
from metering.store import void as mending
from metering.store.status import flow
from metering.store.verify import Check
from metering.store.verify import as_json as checks_as_json
from metering.stripe_sync import inbound
from metering.stripe_sync.reporting import stripe_status
from metering.verification import check_and_keep


def register(commands: AppGroup) -> None:
    for command in (usage, status, verify_command, rebuild):
        commands.add_command(command)
    events = AppGroup("events", help="Take usage back, or put it right.")
    events.add_command(void_event)
    events.add_command(correct_event)
    commands.add_command(events)
    set_aside = AppGroup("set-aside", help="Messages that could not become events.")
    set_aside.add_command(list_set_aside)
    set_aside.add_command(replay_set_aside)
    set_aside.add_command(dismiss_set_aside)
    commands.add_command(set_aside)


@click.command("usage")
@click.argument("customer")
@json_option
def usage(customer: str, as_json: bool) -> None:
    """What a customer has used in its current period."""
    metering = current_metering()
    runtime = metering.runtime
    with explained():
        runtime.refresh_meters()
        summary = metering.summary(customer)
        with runtime.transaction() as session:
            where = zone(find_customer(session, customer).timezone)
    if as_json:
        print_json(
            {"customer": summary.customer, "plan": summary.plan, "meters": [_usage(one) for one in summary.meters]}
        )
        return
    starts, ends = (moment.astimezone(where) for moment in (summary.period.starts_at, summary.period.ends_at))
    click.echo(f"{customer} on {summary.plan}, {starts:%Y-%m-%d} to {ends:%Y-%m-%d} ({where.key})")
    for one in summary.meters:
        limit = "no limit" if one.limit is None else f"of {one.limit:,f} ({one.percent:.1f} %)"
        click.echo(f"  {one.name:<12} {one.used:>16,f}  {limit}")


def _usage(one: MeterUsage) -> dict[str, Decimal | str | None]:
    return {
        "meter": one.meter,
        "unit": one.unit,
        "used": one.used,
        "held": one.held,
        "limit": one.limit,
        "remaining": one.remaining,
    }


@click.command("status")
@json_option
def status(as_json: bool) -> None:
    """How usage flows: backlog, lag, what is set aside, what Stripe is owed."""
    runtime = current_metering().runtime
    with explained(), runtime.transaction() as session:
        figures = {name: value for name, value, _ in flow(session, runtime.redis, now=runtime.clock()).gauges()}
        figures |= stripe_status(runtime, session)
        if runtime.settings.stripe != "off":
            figures |= {
                f"stripe_{name}": float(value) for name, value in inbound.counts(session, runtime.catalog).items()
            }
    if as_json:
        print_json(figures)
        return
    show_figures(figures)


@click.command("verify")
@json_option
def verify_command(as_json: bool) -> None:
    """Prove that the books agree. Exit status 0 only when all of them do."""
    runtime = current_metering().runtime
    with explained():
        checks = check_and_keep(runtime, actor=actor())
    if as_json:
        print_json(checks_as_json(checks))
    else:
        for check in checks:
            _print_check(check)
    sys.exit(0 if all(check.holds for check in checks) else 1)


def _print_check(check: Check) -> None:
    click.echo(f"{'ok  ' if check.holds else 'FAIL'} {check.name:<11} {check.claim}")
    if check.fault:
        click.echo(f"       not looked at: {check.fault}")
    for unseen in check.unseen:
        click.echo(f"       {unseen.customer}: not looked at: {unseen.detail}")
    for one in check.differences:
        where = " ".join(part for part in (one.customer, one.meter, one.detail) if part)
        click.echo(f"       {where}: is {one.actual}, should be {one.expected} (by {one.actual - one.expected:+})")


@click.command("rebuild")
@click.option("--partition", type=int, default=None, help="Only this one.")
def rebuild(partition: int | None) -> None:
    """Rebuild the live counters from PostgreSQL. Admission answers as in an outage meanwhile (well under a second)."""
    runtime = current_metering().runtime
    keeper = Keeper(runtime)
    numbers = range(runtime.settings.partitions) if partition is None else [partition]
    if partition is not None and partition not in range(runtime.settings.partitions):
        raise click.UsageError(f"there are partitions 0 to {runtime.settings.partitions - 1}")
    with explained():
        for number in numbers:
            keeper.rebuild(number, force=True)
    click.echo(f"{len(numbers)} {'partition' if len(numbers) == 1 else 'partitions'} rebuilt", err=True)


reason_option = click.option("--reason", required=True, help="Why: it stands in the audit log.")
source_option = click.option("--source", default="python", show_default=True, help="The event's source.")


@click.command("void")
@click.argument("customer")
@click.argument("event_id")
@source_option
@reason_option
def void_event(customer: str, event_id: str, source: str, reason: str) -> None:
    """Take one event back, everywhere it counted."""
    with explained():
        current_metering().void(customer, event_id, source=source, reason=reason, actor=actor())
    click.echo(f"{event_id} voided", err=True)


@click.command("correct")
@click.argument("customer")
@click.argument("event_id")
@click.argument("quantity")
@source_option
@click.option("--meter", default=None, help="On which meter, where several count the event.")
@reason_option
def correct_event(customer: str, event_id: str, quantity: str, source: str, meter: str | None, reason: str) -> None:
    """Give one event another quantity, in its meter's unit; prints the id it has now."""
    runtime = current_metering().runtime
    runtime.refresh_meters()
    with explained(), runtime.transaction() as session:
        found = find_customer(session, customer)
        revised = mending.correct(
            *(session, runtime.intake, runtime.catalog, found, source, event_id, quantity),
            reason=reason,
            actor=actor(),
            now=runtime.clock(),
            meter=meter,
        )
    click.echo(revised.id)


@click.command("list")
@json_option
def list_set_aside(as_json: bool) -> None:
    """Messages that wait for a decision, oldest first."""
    runtime = current_metering().runtime
    with explained(), runtime.transaction() as session:
        waiting = mending.waiting_messages(session)
    rows = [
        {
            "id": one.id,
            "reason": one.reason,
            "detail": one.detail,
            "customer": one.customer,
            "created_at": one.created_at,
            "message": one.message.decode("utf-8", "replace"),
        }
        for one in waiting
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        click.echo(f"{row['id']:>6}  {row['created_at']:%Y-%m-%d %H:%M}  {row['reason']:<16} {row['customer'] or ''}")
        click.echo(f"        {row['detail']} {row['message']}")


@click.command("replay")
@click.argument("number", type=int)
def replay_set_aside(number: int) -> None:
    """Try a message again, after its cause was mended."""
    runtime = current_metering().runtime
    with explained(), runtime.transaction() as session:
        mending.replay_set_aside(session, number, actor=actor(), now=runtime.clock())
    click.echo(f"message {number} replayed", err=True)


@click.command("dismiss")
@click.argument("number", type=int)
@reason_option
def dismiss_set_aside(number: int, reason: str) -> None:
    """Decide that a message will never become an event."""
    runtime = current_metering().runtime
    with explained(), runtime.transaction() as session:
        mending.dismiss_set_aside(session, number, reason=reason, actor=actor(), now=runtime.clock())
    click.echo(f"message {number} dismissed", err=True)
