"""Addresses that are none: refused before anything looks for a route, so that no view and no database meets them.

Werkzeug replaces what it cannot decode, and two different addresses would become one.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def fault_of(environ: Mapping[str, Any]) -> str | None:
    """What is wrong with the address of a request (PEP 3333); None for a good one."""
    # As it was sent, where the server tells; PATH_INFO was decoded, and can no longer show a broken escape.
    target = str(environ.get("RAW_URI") or environ.get("REQUEST_URI") or "").partition("?")[0]
    query = str(environ.get("QUERY_STRING", ""))
    if BROKEN_ESCAPE.search(target) or BROKEN_ESCAPE.search(query):
        return "the address holds a % that is followed by no two hex digits"
    for name, part in (
        ("path", unquote_to_bytes(target) + str(environ.get("PATH_INFO", "")).encode("latin-1")),
        ("query", unquote_to_bytes(query.encode("latin-1", "replace"))),
    ):
        if b"\0" in part:
            return f"the {name} holds a NUL character"
        try:
            part.decode()
        except UnicodeDecodeError:
            return f"the {name} is not UTF-8"
    return None
