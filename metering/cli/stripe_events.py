"""`stripe customer`, `stripe events`, `stripe retry-event`, `stripe sync`: what Stripe tells us, and whom it knows."""

import click

from metering.accounts.customers import find_customer
from metering.accounts.in_force import put_in_force
from metering.cli.common import actor, counted, current_metering, explained, json_option, print_json
from metering.stripe_sync import inbound
from metering.stripe_sync.customers import find_or_create
from metering.stripe_sync.mirror import mirror
from metering.stripe_sync.processing import process
from metering.stripe_sync.reporting import gateway_for

UNSETTLED = ("waiting", "failed")
ALL = ("waiting", "failed", "ignored", "processed")


@click.command("customer")
@click.argument("key")
def link_customer(key: str) -> None:
    """Find a customer at Stripe, or make it there; prints its id."""
    runtime = current_metering().runtime
    with explained(), runtime.transaction() as session:
        api, customer = gateway_for(runtime.settings), find_customer(session, key)
        stripe_id = find_or_create(session, api, customer, now=runtime.clock(), actor=actor())
    click.echo(stripe_id)


@click.command("events")
@click.option("--all", "everything", is_flag=True, help="Those that are done, too.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000))
@json_option
def list_events(everything: bool, limit: int, as_json: bool) -> None:
    """Webhook events that wait or failed, with the reason; the newest first."""
    runtime = current_metering().runtime
    with explained(), runtime.transaction() as session:
        rows = [
            {
                "event": event.event_id,
                "type": event.type,
                "object": event.object_id,
                "mode": event.mode,
                "state": event.state,
                "attempts": event.attempts,
                "received_at": event.received_at,
                "next_try_at": event.next_try_at if event.state == "waiting" else None,
                "reason": event.reason,
            }
            for event in inbound.list_events(session, states=ALL if everything else UNSETTLED, limit=limit)
        ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        click.echo(f"{row['event']}  {row['received_at']:%Y-%m-%d %H:%M:%S}  {row['type']}  {row['object'] or ''}")
        click.echo(
            f"        {row['state']}, {counted(row, 'attempt')}{': ' + str(row['reason']) if row['reason'] else ''}"
        )


@click.command("retry-event")
@click.argument("event")
def retry_event(event: str) -> None:
    """Process an event again, now; processing one twice does no harm."""
    runtime = current_metering().runtime
    with explained():
        with runtime.transaction() as session:
            row_id = inbound.retry(session, event, now=runtime.clock(), actor=actor())
        settled = process(runtime, row_id)
        put_in_force(runtime)
        with runtime.transaction() as session:
            found = inbound.find(session, event)
    click.echo(f"{event} {found.state}{': ' + found.reason if found.reason else ''}", err=not settled)
    if not settled:
        raise click.exceptions.Exit(1)


@click.command("sync")
@click.argument("subscription")
def sync_subscription(subscription: str) -> None:
    """Follow a subscription (sub_…) as it stands at Stripe now: for one that no event told us of."""
    runtime = current_metering().runtime
    with explained():
        with runtime.transaction() as session:
            api = gateway_for(runtime.settings)
            why_not = mirror(session, api, runtime.catalog, subscription, now=runtime.clock())
        put_in_force(runtime)
    if why_not:
        raise click.ClickException(why_not)
    click.echo(f"{subscription} followed", err=True)


COMMANDS = (link_customer, list_events, retry_event, sync_subscription)
