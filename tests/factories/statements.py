"""Counting what is asked of PostgreSQL."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, event


@contextmanager
def counting(engine: Engine | Connection) -> Iterator[list[int]]:
    """How many statements are sent meanwhile, as the only number of the list."""
    count = [0]

    def add(*_: object) -> None:
        count[0] += 1

    event.listen(engine, "before_cursor_execute", add)
    try:
        yield count
    finally:
        event.remove(engine, "before_cursor_execute", add)
