"""What all commands share: the runtime, errors as one clear line, JSON when asked for."""

import getpass
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click
from flask import current_app
from sqlalchemy.exc import OperationalError

from metering.accounts.changes import Change
from metering.errors import MeteringError
from metering.problems import to_json
from metering.service import Metering

json_option: Callable[[Any], Any] = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def current_metering() -> Metering:
    metering: Metering = current_app.extensions["metering"]
    return metering


@contextmanager
def explained() -> Iterator[None]:
    """Our own errors, and a database that is away, end a command with their message and exit status 1."""
    try:
        yield
    except MeteringError as error:
        raise click.ClickException(error.message) from None
    except OperationalError as error:
        raise click.ClickException(f"The database does not answer: {str(error).splitlines()[0]}") from None


def show_figures(figures: Mapping[str, float]) -> None:
    """One a line, the numbers beneath each other."""
    widest = max((len(name) for name in figures), default=0)
    for name, value in figures.items():
        click.echo(f"{name.replace('_', ' '):<{widest}} {number(value):>14}")


def number(value: float) -> str:
    """Whole numbers in full, others with two places."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"


def counted(one: Mapping[str, Any], what: str) -> str:
    """`1 hour`, `2 hours`: the number stands under the plural."""
    found = one[f"{what}s"]
    return f"{found} {what}" if found == 1 else f"{found} {what}s"


def actor() -> str:
    """Who the audit log names: the account that runs the command."""
    return f"cli:{getpass.getuser()}"


@contextmanager
def changing() -> Iterator[Change]:
    """A change that the command makes, in one transaction. It is not sent to the intake: the command tells whether it
    could be.
    """
    runtime = current_metering().runtime
    with runtime.transaction() as session:
        yield Change(session, runtime.clock(), actor())


def print_json(body: Any) -> None:
    click.echo(json.dumps(json.loads(to_json(body)), indent=2))
