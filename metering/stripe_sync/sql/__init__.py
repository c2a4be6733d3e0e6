"""The long SQL statements, one a file."""

from functools import cache
from importlib import resources

from sqlalchemy import TextClause, text


@cache
def statement(name: str) -> TextClause:
    """The statement in `<name>.sql`, with `:name` parameters. What several have in common stands in a file as well."""
    return text(_read(name).replace("{may_cost}", _read("may_cost").rstrip()))


def _read(name: str) -> str:
    return resources.files(__name__).joinpath(f"{name}.sql").read_text("utf-8")
