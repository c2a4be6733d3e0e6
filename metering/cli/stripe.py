"""`stripe`: report now, see where that stands, and decide on rows that are parked."""

from dataclasses import asdict

import click
from flask.cli import AppGroup
from sqlalchemy import select

from metering.accounts.in_force import put_in_force
from metering.cli import stripe_events
from metering.cli.common import actor, current_metering, explained, json_option, print_json
from metering.cli.push import push_catalog
from metering.cli.reconcile import reconcile_command, status
from metering.models import Customer, MeterRow, StripeReport
from metering.stripe_sync import decisions, lost_meters, single, stops
from metering.stripe_sync.processing import mirror_now
from metering.stripe_sync.reporting import gateway_for, report


def register(commands: AppGroup) -> None:
    group = AppGroup("stripe", help="What Stripe is told.")
    looking = (report_now, status, reconcile_command, list_parked)
    deciding = (retry, write_off, settle, resume, end_double, push_catalog, forget_meter)
    for command in (*looking, *deciding, *stripe_events.COMMANDS):
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
    click.echo(
        f"{sent.accepted} accepted, {sent.cancelled} taken back, {sent.looked_up} looked up, "
        f"{sent.postponed} postponed, {sent.parked} parked"
    )
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
@click.argument("numbers", type=int, nargs=-1, metavar="[N]…")
@click.option(
    "--meter", default=None, help="All parked rows of this meter, such as after it was reactivated at Stripe."
)
def retry(numbers: tuple[int, ...], meter: str | None) -> None:
    """Send parked rows again, after their cause was mended."""
    if bool(numbers) == (meter is not None):
        raise click.UsageError("say which ones: their numbers, or --meter KEY")
    runtime = current_metering().runtime
    with explained():
        if meter is not None:
            with runtime.transaction() as session:
                numbers = decisions.parked_of(session, meter)
        for number in numbers:
            with runtime.transaction() as session:
                decisions.retry(session, number, now=runtime.clock(), actor=actor())
            click.echo(f"row {number} waits to be sent", err=True)
    if not numbers:
        click.echo(f"nothing of {meter} is parked", err=True)


@click.command("write-off")
@click.argument("number", type=int)
@click.option("--note", required=True, help="Why: it stands in the audit log.")
def write_off(number: int, note: str) -> None:
    """Decide that Stripe will not be told of a parked row."""
    runtime = current_metering().runtime
    with explained(), runtime.transaction() as session:
        decisions.write_off(session, number, note=note, now=runtime.clock(), actor=actor())
    click.echo(f"row {number} written off", err=True)


@click.command("settle")
@click.argument("number", type=int)
@click.option("--counted/--not-counted", required=True, help="Whether Stripe has it; if not, a new row is sent.")
@click.option("--note", required=True, help="How you know: it stands in the audit log.")
def settle(number: int, counted: bool, note: str) -> None:
    """Decide on a parked row of which nobody knows whether Stripe counted it."""
    runtime = current_metering().runtime
    with explained(), runtime.transaction() as session:
        decisions.settle(session, number, counted=counted, note=note, now=runtime.clock(), actor=actor())
    click.echo(f"row {number} is {'accepted' if counted else 'replaced by what its hour owes now'}", err=True)


@click.command("end-double")
@click.argument("subscription")
@click.option("--note", required=True, help="Why this one: it stands in the audit log.")
def end_double(subscription: str, note: str) -> None:
    """End one of several subscriptions of a customer, at once and without a bill; refund at Stripe what it cost."""
    runtime = current_metering().runtime
    with explained():
        with runtime.transaction() as session:
            api = gateway_for(runtime.settings)
            single.end_double(session, api, subscription, note=note, now=runtime.clock(), actor=actor())
        mirror_now(runtime, subscription)
        put_in_force(runtime)
    click.echo(f"{subscription} has ended", err=True)


@click.command("forget-meter")
@click.argument("meter")
@click.option("--note", required=True, help="Why: it stands in the audit log.")
def forget_meter(meter: str, note: str) -> None:
    """Have owed again what was reported to a meter that is gone at Stripe; `push` makes another."""
    runtime = current_metering().runtime
    if runtime.settings.stripe == "off":
        raise click.ClickException("METERING_STRIPE is off: Stripe cannot be asked whether the meter is gone")
    with explained(), runtime.transaction() as session:
        gateway = gateway_for(runtime.settings)
        lost, rows = lost_meters.forget_meter(session, gateway, meter, note=note, now=runtime.clock(), actor=actor())
    click.echo(f"{meter}: {lost} forgotten, {rows} rows withdrawn; now run `flask metering stripe push`", err=True)


@click.command("resume")
def resume() -> None:
    """Try the key again that Stripe refused, after mending what it may do."""
    runtime = current_metering().runtime
    with explained(), runtime.transaction() as session:
        was_stopped = stops.resume(session, runtime.settings, now=runtime.clock(), actor=actor())
    click.echo("reporting goes on" if was_stopped else "this key was not stopped", err=True)
