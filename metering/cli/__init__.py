"""`flask --app wsgi metering …`: the operators' tools."""

from flask.cli import AppGroup

from metering.cli import accounts, books, setup

commands = AppGroup("metering", help="Usage metering: set up, look, prove, mend.")
for group in (setup, accounts, books):
    group.register(commands)
