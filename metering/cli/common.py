"""What all commands share: the runtime, errors as one clear line, JSON when asked for."""

import getpass
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from flask import current_app
from sqlalchemy.exc import OperationalError

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


def actor() -> str:
    """Who the audit log names: the account that runs the command."""
    return f"cli:{getpass.getuser()}"


def print_json(body: Any) -> None:
    click.echo(json.dumps(json.loads(to_json(body)), indent=2))
