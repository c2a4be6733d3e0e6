"""Addresses of static files carry what is in them (`?v=…`), so that browsers keep them for a year without asking.

Without it the icon sprite would be asked for again with every card that is swapped.
"""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from flask import Flask, Response, request
from werkzeug.security import safe_join

A_YEAR = "public, max-age=31536000, immutable"
DIGITS = 12


def version(app: Flask) -> None:
    """Version the app's own static files. Addresses without a version, or with an old one, work as ever."""
    folder = str(app.static_folder)

    @app.url_defaults
    def _add_version(endpoint: str, values: dict[str, Any]) -> None:
        if endpoint == "static" and "v" not in values and (known := fingerprint(folder, values.get("filename"))):
            values["v"] = known

    @app.after_request
    def _keep_for_long(response: Response) -> Response:
        if request.endpoint == "static" and response.status_code in (200, 304) and (given := request.args.get("v")):
            filename = (request.view_args or {}).get("filename")
            if given == fingerprint(folder, filename):
                response.headers["Cache-Control"] = A_YEAR
        return response


def fingerprint(folder: str, filename: str | None) -> str | None:
    """Of the file's content; None for one that is not there."""
    path = safe_join(folder, filename) if filename else None
    try:
        facts = Path(path).stat() if path else None
    except OSError:
        return None
    return _digest(path, facts.st_mtime_ns, facts.st_size) if path and facts else None


@lru_cache(maxsize=512)
def _digest(path: str, _changed_ns: int, _size: int) -> str:
    """Read again only when the file has changed."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:DIGITS]
