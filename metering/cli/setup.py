"""`init`: the schema, partitions, meters and live counters, made or brought up to date."""

import click
from flask.cli import AppGroup

from metering.cli.common import current_metering, explained
from metering.initialise import initialise


def register(commands: AppGroup) -> None:
    commands.command("init")(init)


def init() -> None:
    """Make or upgrade the schema, and get the live counters ready. Safe to run again."""
    with explained():
        initialise(current_metering().runtime, report=click.echo)
