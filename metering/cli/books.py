"""`usage`, `status`, `verify`, `rebuild`, `events`, `set-aside`, `stripe`: looking, proving, mending."""

from flask.cli import AppGroup


def register(commands: AppGroup) -> None:
    """Added one by one below."""
