"""The long SQL statements, one a file."""

from functools import cache
from importlib import resources

from sqlalchemy import TextClause, text


@cache
def statement(name: str) -> TextClause:
    """The statement in `<name>.sql`, which may lie in a folder, with `:name` parameters."""
    return text(resources.files(__name__).joinpath(f"{name}.sql").read_text("utf-8"))
