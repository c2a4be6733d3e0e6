"""Who there is: customers, users and keys listed; and help for users who cannot get in any more."""

from typing import Any

import click
from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from metering.accounts import two_step
from metering.accounts.credentials import new_reset
from metering.accounts.customers import find_customer, list_customers
from metering.accounts.keys import keys_of
from metering.accounts.users import find_user, members_of
from metering.billing.periods import terms_of
from metering.cli.common import changing, current_metering, explained, json_option, print_json
from metering.models import Customer, Membership, User

MOST = 10_000
limit_option = click.option("--limit", type=click.IntRange(1, MOST), default=100, show_default=True)


@click.command("list")
@click.option("--begins", default=None, help="How the key or the name begins.")
@limit_option
@json_option
def customers_command(begins: str | None, limit: int, as_json: bool) -> None:
    """List customers in the order of their keys."""
    runtime = current_metering().runtime
    with explained(), runtime.transaction() as session:
        found = list_customers(session, begins=begins, after=None, limit=limit)
        _show([_customer(one) for one in found], as_json)


@click.command("show")
@click.argument("customer")
@json_option
def customer_command(customer: str, as_json: bool) -> None:
    """Show a customer, its members and its keys that work."""
    runtime = current_metering().runtime
    now = runtime.clock()
    with explained(), runtime.transaction() as session:
        found = find_customer(session, customer)
        terms = terms_of(session, [found], now)[found.id]
        facts = _customer(found) | {
            "next_plan": terms.next_plan,
            "next_plan_at": terms.next_plan_at,
            "stripe_customer_id": found.stripe_customer_id,
            "members": [
                {"email": one.user.email, "role": one.role}
                for one in members_of(session, found, after=None, limit=MOST)
            ],
            "keys": [
                f"{key.prefix}… {key.name}"
                for key in keys_of(session, found)
                if key.revoked_at is None and (key.expires_at is None or key.expires_at > now)
            ],
        }
    if as_json:
        print_json(facts)
        return
    facts["members"] = [f"{one['email']} ({one['role']})" for one in facts["members"]]
    for name, value in facts.items():
        for line in value if isinstance(value, list) else [value]:
            click.echo(f"{name.replace('_', ' '):20} {'-' if line is None else line}")


@click.command("list")
@click.option("--customer", "customer_key", default=None, help="Its members alone.")
@limit_option
@json_option
def users_command(customer_key: str | None, limit: int, as_json: bool) -> None:
    """List the people who log in, with their customers, and whether they do so in two steps."""
    runtime = current_metering().runtime
    with explained(), runtime.transaction() as session:
        query = select(User).order_by(User.email).limit(limit)
        if customer_key is not None:
            customer = find_customer(session, customer_key)
            query = query.join(Membership).where(Membership.customer_id == customer.id)
        _show(_users(session, list(session.scalars(query))), as_json)


@click.command("list")
@click.option("--customer", "customer_key", default=None, help="Its keys; without it those of the operators.")
@json_option
def keys_command(customer_key: str | None, as_json: bool) -> None:
    """List API keys, newest first; of a key nothing but how it begins is known."""
    runtime = current_metering().runtime
    with explained(), runtime.transaction() as session:
        customer = find_customer(session, customer_key) if customer_key is not None else None
        rows = [
            {
                "prefix": key.prefix,
                "name": key.name,
                "scopes": key.scopes,
                "created_at": key.created_at,
                "created_by": key.created_by,
                "last_used_at": key.last_used_at,
                "expires_at": key.expires_at,
                "revoked_at": key.revoked_at,
            }
            for key in keys_of(session, customer)
        ]
    _show(rows, as_json)


@click.command("reset")
@click.argument("email")
def reset_command(email: str) -> None:
    """Make a link by which a user chooses a new password, for you to hand over. It works once, for an hour."""
    settings = current_metering().settings
    base_url = settings.public_url or f"http://localhost:{settings.port}"
    with explained(), changing() as change:
        user = find_user(change.session, email)
        link = new_reset(change.session, user, base_url=base_url, now=change.now)
        change.note("user.reset_link", user=user.id, email=user.email)
    click.echo(link)


@click.command("one-step")
@click.argument("email")
def one_step_command(email: str) -> None:
    """Turn off the second step of a user who has lost the telephone and the recovery codes."""
    with explained(), changing() as change:
        user = find_user(change.session, email)
        two_step.turn_off(change.session, user)
        change.note("user.turn_off_two_step", user=user.id, email=user.email)
    click.echo(f"{email} logs in with the password alone", err=True)


COMMANDS: dict[str, tuple[click.Command, ...]] = {
    "customers": (customers_command, customer_command),
    "users": (users_command, reset_command, one_step_command),
    "keys": (keys_command,),
}


def _customer(customer: Customer) -> dict[str, Any]:
    names = ("key", "name", "plan", "status", "timezone", "created_at")
    return {name: getattr(customer, name) for name in names}


def _users(session: Session, users: list[User]) -> list[dict[str, Any]]:
    ids = [user.id for user in users]
    query = select(Membership).where(Membership.user_id.in_(ids)).options(joinedload(Membership.customer))
    roles: dict[int, list[str]] = {}
    for member in session.scalars(query.order_by(Membership.id)):
        roles.setdefault(member.user_id, []).append(f"{member.customer.key}:{member.role}")
    in_two_steps = two_step.who_has_it(session, ids)
    return [
        {
            "email": user.email,
            "name": user.name,
            "operator": user.operator,
            "two_step": user.id in in_two_steps,
            "customers": roles.get(user.id, []),
            "created_at": user.created_at,
        }
        for user in users
    ]


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    """JSON, or a line each, in columns."""
    if as_json:
        print_json(rows)
        return
    if not rows:
        click.echo("none")
        return
    table = [[name.replace("_", " ") for name in rows[0]], *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[place]) for line in table) for place in range(len(table[0]))]
    for line in table:
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _text(value: Any) -> str:
    if value is None or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(value)
    return value.strftime("%Y-%m-%d %H:%M") if hasattr(value, "strftime") else str(value)
