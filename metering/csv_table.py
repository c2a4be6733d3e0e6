"""Tables as CSV (RFC 4180), as a spreadsheet may open them. Pure."""

import csv
import io
from collections.abc import Iterable, Sequence

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are texts; where one would be taken for a formula an apostrophe stands before it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(head)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: str) -> str:
    return "'" + value if value.startswith(FORMULA) and not _is_number(value) else value


def _is_number(value: str) -> bool:
    return value.lstrip("-").replace(".", "", 1).isdecimal()
