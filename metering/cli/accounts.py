"""`customers`, `users` and `keys`: who is billed, who logs in, who calls."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
from flask.cli import AppGroup
from sqlalchemy.orm import Session

from metering.accounts.changes import Change
from metering.accounts.customers import (
    change_plan,
    create_customer,
    find_customer,
    link_with_stripe,
    lock_customer,
    set_status,
)
from metering.accounts.in_force import count_seats, put_in_force
from metering.accounts.keys import DEFAULT_SCOPES, SCOPES, create_key, keys_of, revoke_key
from metering.accounts.users import add_member, create_user
from metering.billing.periods import PLAN_STARTS, PlanStart
from metering.cli import people
from metering.cli.common import changing, current_metering, explained
from metering.errors import Conflict, NotFound
from metering.models import ROLES, ApiKey, Customer
from metering.stripe_sync.customers import require_known
from metering.stripe_sync.reporting import gateway_for


def register(commands: AppGroup) -> None:
    for name, help_text, members in (
        ("customers", "The billed parties.", (create_customer_command, plan, suspend, activate, stripe_id)),
        ("users", "The people who log in.", (create_user_command,)),
        ("keys", "API keys.", (create_key_command, revoke)),
    ):
        group = AppGroup(name, help=help_text)
        for command in (*members, *people.COMMANDS[name]):
            group.add_command(command)
        commands.add_command(group)


@click.command("create")
@click.argument("key")
@click.option("--name", required=True)
@click.option("--plan", required=True)
@click.option("--timezone", default="UTC", show_default=True)
@click.option("--stripe-customer", default=None, help="The id of the customer in Stripe (cus_…).")
def create_customer_command(key: str, name: str, plan: str, timezone: str, stripe_customer: str | None) -> None:
    """Make a customer."""
    runtime = current_metering().runtime
    with explained():
        with changing() as change:
            customer = create_customer(
                change.session,
                runtime.catalog,
                key=key,
                name=name,
                plan=plan,
                partitions=runtime.settings.partitions,
                now=change.now,
                timezone=timezone,
                stripe_customer_id=stripe_customer,
            )
            facts = {"key": key, "name": name, "plan": plan, "timezone": timezone}
            change.note("customer.create", customer, **facts, stripe_customer_id=stripe_customer)
        push_state()
    click.echo(f"customer {key} made", err=True)


@click.command("create")
@click.argument("email")
@click.option("--customer", "customer_key", default=None, help="The customer this user belongs to.")
@click.option("--role", type=click.Choice(ROLES), default="member", show_default=True)
@click.option("--name", default="")
@click.option("--operator", is_flag=True, help="A member of the team that runs the product.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input instead of asking.")
def create_user_command(
    email: str, customer_key: str | None, role: str, name: str, operator: bool, password_stdin: bool
) -> None:
    """Make a user."""
    runtime = current_metering().runtime
    if password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    with explained():
        with changing() as change:
            session = change.session
            user = create_user(session, email=email, password=password, name=name, operator=operator)
            change.note("user.create", user=user.id, email=user.email, operator=operator)
            if customer_key is not None:
                customer = find_customer(session, customer_key)
                add_member(session, runtime.intake, runtime.catalog, customer, user, role, now=change.now)
                change.note("member.add", customer, user=user.id, role=role)
        feed_inbox()
    click.echo(f"user {email} made", err=True)


@click.command("create")
@click.option("--customer", "customer_key", default=None)
@click.option("--operator", is_flag=True, help="A key of the operators instead of a customer's.")
@click.option("--name", required=True)
@click.option("--scope", "scopes", multiple=True, type=click.Choice(SCOPES), help="May be given several times.")
def create_key_command(customer_key: str | None, operator: bool, name: str, scopes: tuple[str, ...]) -> None:
    """Make an API key; its secret alone goes to standard output, once."""
    if operator == (customer_key is not None):
        raise click.UsageError("say whose key it is: --customer KEY or --operator")
    with explained():
        with changing() as change:
            session = change.session
            customer = find_customer(session, customer_key) if customer_key else None
            chosen = scopes or (SCOPES if operator else DEFAULT_SCOPES)
            key, made = create_key(
                session, customer, name=name, scopes=chosen, now=change.now, by_operator=True, by=change.actor
            )
            change.note("key.create", customer, key=key.id, name=key.name, scopes=key.scopes)
        push_state()
    click.echo(made.secret)


@click.command("plan")
@click.argument("customer")
@click.argument("plan_key")
@click.option("--when", type=click.Choice(PLAN_STARTS), default="now", show_default=True, help="From when on it bills.")
def plan(customer: str, plan_key: str, when: PlanStart) -> None:
    """Put a customer on another plan: the running period is billed by it, or (period_end) those that follow."""
    with _changing(customer) as (change, found):
        runtime = current_metering().runtime
        change_plan(change.session, runtime.settings, runtime.catalog, found, plan_key, when=when, now=change.now)
        change.note("customer.plan", found, plan=plan_key, when=when)
    _say(customer, f"plan {plan_key}" + (" from the next period on" if when == "period_end" else ""))


@click.command("suspend")
@click.argument("customer")
def suspend(customer: str) -> None:
    """Serve a customer no metered call until it is activated again."""
    _set_status(customer, "suspended")


@click.command("activate")
@click.argument("customer")
def activate(customer: str) -> None:
    """Serve a suspended customer again."""
    _set_status(customer, "active")


@click.command("stripe")
@click.argument("customer")
@click.argument("stripe_customer_id", required=False)
@click.option("--none", "no_id", is_flag=True, help="It is none yet; the stand-in makes one by itself.")
@click.option("--unchecked", is_flag=True, help="Do not ask Stripe whether it knows that customer.")
def stripe_id(customer: str, stripe_customer_id: str | None, no_id: bool, unchecked: bool) -> None:
    """Say which customer of Stripe's (cus_…) this one is; what it owes is reported from then on.

    A wrong id is put right the same way, as long as Stripe has counted nothing under it: what was reported under an id
    that Stripe does not know is owed again.
    """
    if no_id == (stripe_customer_id is not None):
        raise click.UsageError("say which one it is: cus_… or --none")
    settings = current_metering().settings
    if stripe_customer_id is not None and settings.stripe != "off" and not unchecked:
        with explained():
            require_known(gateway_for(settings), stripe_customer_id, customer)
    with _changing(customer) as (change, found):  # which notes it by itself
        link_with_stripe(change.session, settings, found, stripe_customer_id, now=change.now, actor=change.actor)
    _say(customer, f"Stripe customer {stripe_customer_id or 'none'}")


@click.command("revoke")
@click.argument("prefix")
@click.option("--customer", "customer_key", required=True)
def revoke(prefix: str, customer_key: str) -> None:
    """Revoke the API key of a customer that begins with PREFIX; every process obeys within a second."""
    with _changing(customer_key) as (change, found):
        key = _key_that_begins(change.session, found, prefix)
        revoke_key(change.session, found, key.id, now=change.now)
        change.note("key.revoke", found, key=key.id, name=key.name)
    _say(customer_key, f"key {prefix} revoked")


@contextmanager
def _changing(customer_key: str) -> Iterator[tuple[Change, Customer]]:
    """Change a customer, and send it to the intake at once."""
    with explained():
        with changing() as change:
            yield change, lock_customer(change.session, customer_key)
        push_state()


def _say(customer_key: str, what: str) -> None:
    click.echo(f"{customer_key}: {what}", err=True)


def _set_status(customer_key: str, status: str) -> None:
    with _changing(customer_key) as (change, found):
        set_status(change.session, found, status)
        change.note("customer.change", found, status=status)
    _say(customer_key, status)


def _key_that_begins(session: Session, customer: Customer, prefix: str) -> ApiKey:
    """Raises NotFound, and Conflict for a prefix that several keys begin with."""
    found = [key for key in keys_of(session, customer) if key.prefix.startswith(prefix) and key.revoked_at is None]
    if not found:
        raise NotFound(f"no key of {customer.key!r} that works begins with {prefix!r}")
    if len(found) > 1:
        raise Conflict(f"{len(found)} keys begin with {prefix!r}: write more of it")
    return found[0]


def push_state() -> None:
    if not put_in_force(current_metering().runtime):
        click.echo("saved, but not in force yet: the servers do not answer", err=True)


def feed_inbox() -> None:
    if not count_seats(current_metering().runtime):
        click.echo("saved, but not counted yet: the servers do not answer", err=True)
