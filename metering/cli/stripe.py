"""`stripe`: report now, and decide on rows that Stripe refused."""

from collections import Counter
from dataclasses import asdict

import click
from flask.cli import AppGroup
from sqlalchemy import select

from metering.cli import stripe_events
from metering.cli.common import actor, current_metering, explained, json_option, print_json
from metering.models import Customer, MeterRow, StripeReport
from metering.stripe_sync import ledger
from metering.stripe_sync.push.plan import Action, Step, changes
from metering.stripe_sync.push.run import look, push
from metering.stripe_sync.reporting import report

SIGNS = {Action.CREATE: "+", Action.UPDATE: "~", Action.SAME: "=", Action.DEACTIVATE: "-"}


def register(commands: AppGroup) -> None:
    group = AppGroup("stripe", help="What Stripe is told.")
    for command in (report_now, list_parked, retry, write_off, push_catalog, *stripe_events.COMMANDS):
        group.add_command(command)
    commands.add_command(group)


@click.command("report")
@click.option("--open-hours", is_flag=True, help="Report the hour that still runs as well; the rest of it follows.")
@json_option
def report_now(open_hours: bool, as_json: bool) -> None:
    """Work out what is owed and send what waits, now."""
    with explained():
        sent = report(current_metering().runtime, open_hours=open_hours)
    if as_json:
        print_json(asdict(sent))
        return
    if current_metering().settings.stripe == "off":
        click.echo("METERING_STRIPE is off: nothing is reported", err=True)
    click.echo(f"{sent.accepted} accepted, {sent.postponed} postponed, {sent.parked} parked")
    if sent.stopped:
        raise click.ClickException(f"sending stopped: {sent.stopped}")


@click.command("parked")
@json_option
def list_parked(as_json: bool) -> None:
    """Rows that Stripe refused, with its reason."""
    runtime = current_metering().runtime
    query = (
        select(StripeReport, Customer.key, MeterRow.key)
        .join(Customer, Customer.id == StripeReport.customer_id)
        .join(MeterRow, MeterRow.id == StripeReport.meter_id)
        .where(StripeReport.state == "parked")
        .order_by(StripeReport.id)
    )
    with explained(), runtime.transaction() as session:
        rows = [
            {
                "id": row.id,
                "account": row.account,
                "customer": customer,
                "meter": meter,
                "hour": row.hour,
                "value": row.value,
                "reason": row.fault,
            }
            for row, customer, meter in session.execute(query)
        ]
    if as_json:
        print_json(rows)
        return
    for one in rows:
        click.echo(f"{one['id']:>6}  {one['customer']} {one['meter']} {one['hour']:%Y-%m-%d %H:00}  {one['value']}")
        click.echo(f"        {one['reason']}")


@click.command("retry")
@click.argument("number", type=int)
def retry(number: int) -> None:
    """Send a parked row again, after its cause was mended."""
    runtime = current_metering().runtime
    with explained(), runtime.transaction() as session:
        ledger.retry(session, number, now=runtime.clock(), actor=actor())
    click.echo(f"row {number} waits to be sent", err=True)


@click.command("write-off")
@click.argument("number", type=int)
@click.option("--note", required=True, help="Why: it stands in the audit log.")
def write_off(number: int, note: str) -> None:
    """Decide that Stripe will not be told of a parked row."""
    runtime = current_metering().runtime
    with explained(), runtime.transaction() as session:
        ledger.write_off(session, number, note=note, now=runtime.clock(), actor=actor())
    click.echo(f"row {number} written off", err=True)


@click.command("push")
@click.option("--dry-run", is_flag=True, help="Show what there is to do, and do nothing.")
@click.option("--yes", is_flag=True, help="Do it without asking.")
@json_option
def push_catalog(dry_run: bool, yes: bool, as_json: bool) -> None:
    """Make the catalog's meters, products and prices at Stripe, or find those that are there.

    Nothing is deleted, and no price is changed: a new one takes its place, and old subscriptions keep theirs.
    """
    runtime = current_metering().runtime
    with explained():
        steps = look(runtime)
        wanted = changes(steps)
        if not as_json:
            _show(steps)
        if not dry_run:
            if wanted and not yes:
                click.confirm("Do this at Stripe?", abort=True, err=True)
            steps = push(runtime, wanted, actor=actor())
    if as_json:
        print_json({"done": not dry_run, "steps": [_plain(step) for step in steps]})
    elif wanted:
        click.echo("nothing was done" if dry_run else "done", err=True)


def _show(steps: list[Step]) -> None:
    """The steps as a diff, those that do nothing as a number."""
    for step in changes(steps):
        click.echo(f"{SIGNS[step.action]} {step.kind:<8} {step.key}  {step.says}")
    counts = Counter(step.action for step in steps)
    said = [f"{counts[action]} to {action}" for action in Action if action is not Action.SAME and counts[action]]
    click.echo(", ".join([*said, f"{counts[Action.SAME]} as they are"]) if said else "nothing to do")


def _plain(step: Step) -> dict[str, object]:
    return {"action": step.action, "kind": step.kind, "key": step.key, "id": step.id, "says": step.says}
