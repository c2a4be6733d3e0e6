"""The one error of the embedded servers: it says what failed, where, and what to do."""

from __future__ import annotations

from pathlib import Path

LAST_LINES = 15


class EmbeddedError(Exception):
    """An embedded server can't be found, started or stopped. The message is meant for the person at the terminal."""

    @classmethod
    def with_log(cls, message: str, log: Path) -> EmbeddedError:
        """The message, followed by the end of the server's own log: that is where the cause stands."""
        try:
            lines = log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        except OSError:
            lines = []
        shown = "\n".join(f"  | {line}" for line in lines) or "  | (empty)"
        return cls(f"{message}\nThe last lines of {log}:\n{shown}")
