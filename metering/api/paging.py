"""Lists in pages, by key: a page begins behind the last one of the page before, whatever came or went meanwhile."""

from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import TypeVar

from pydantic import Field

from metering.api.bodies import InvalidRequest, Query
from metering.api.shapes import Page

MAX_ID = 2**63 - 1

Row = TypeVar("Row")
Item = TypeVar("Item")


class PageQuery(Query):
    """`limit`: how many at most. `cursor`: the `next_cursor` of the page before."""

    limit: int = Field(default=50, ge=1, le=200)
    cursor: str | None = Field(default=None, max_length=500)

    @property
    def after(self) -> str | None:
        """The place behind which this page begins. Raises InvalidRequest."""
        if self.cursor is None:
            return None
        try:
            padded = self.cursor + "=" * (-len(self.cursor) % 4)
            place = b64decode(padded, altchars=b"-_", validate=True).decode()
        except ValueError:
            raise _no_cursor() from None
        if "\x00" in place:
            raise _no_cursor()
        return place

    @property
    def after_id(self) -> int | None:
        """The same where lists are ordered by id. Raises InvalidRequest."""
        place = self.after
        if place is None:
            return None
        if not (place.isascii() and place.isdigit() and int(place) <= MAX_ID):
            raise _no_cursor()
        return int(place)


def page(
    rows: Sequence[Row], query: PageQuery, place: Callable[[Row], object], shape: Callable[[Row], Item]
) -> Page[Item]:
    """A page from `rows`, of which there is one more than `query.limit` where another page follows."""
    shown = rows[: query.limit]
    more = len(rows) > query.limit
    cursor = urlsafe_b64encode(str(place(shown[-1])).encode()).decode().rstrip("=") if more else None
    return Page(items=[shape(row) for row in shown], next_cursor=cursor)


def _no_cursor() -> InvalidRequest:
    why = "is not the next_cursor of an answer"
    return InvalidRequest(
        f"The query is not as it should be: cursor: {why}", errors=[{"field": "cursor", "message": why}]
    )
