"""`flask --app wsgi metering …`: the operators' tools."""

from flask.cli import AppGroup, with_appcontext

from metering.cli import accounts, books, setup, stripe


@with_appcontext
def _enter() -> None:
    """In a host's app, where Flask finds the commands by their entry point, no application context is there yet."""


commands = AppGroup("metering", callback=_enter, help="Usage metering: set up, look, prove, mend.")
for group in (setup, accounts, books, stripe):
    group.register(commands)
