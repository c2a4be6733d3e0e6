"""A body that is produced while it is sent: its call settles when the server closes it, with what was produced.

WSGI servers close a body at its end, and when the client has gone away. One that nobody ever took (an `after_request`
function failed, say) is given up instead, as soon as it is collected.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

Running = Callable[[], AbstractContextManager[None]]
"""Makes the call the current one, so that `usage` works while the body is produced."""

OnClose = Callable[[bytes | None], object]
"""Told the whole body, or None where it was broken off or longer than was to be kept."""


class Produced:
    def __init__(
        self,
        parts: Iterable[bytes] | Iterable[str],
        *,
        keep_bytes: int,
        running: Running,
        on_close: OnClose,
        on_lost: Callable[[], object],
    ) -> None:
        self._parts = parts
        self._iterator: Iterator[Any] = iter(parts)
        self._keep_bytes = keep_bytes
        self._running = running
        self._on_close = on_close
        self._on_lost = on_lost
        self._kept: list[bytes] | None = []
        self._complete = False
        self._closed = False

    def __iter__(self) -> "Produced":
        return self

    def __next__(self) -> Any:
        with self._running():
            try:
                part = next(self._iterator)
            except StopIteration:
                self._complete = True
                raise
        self._keep(part.encode() if isinstance(part, str) else part)
        return part

    def close(self) -> None:
        """Also runs the `finally` blocks of a generator that was broken off: they may still report usage."""
        if self._closed:
            return
        self._closed = True
        try:
            close = getattr(self._parts, "close", None)
            if close is not None:
                with self._running():
                    close()
        finally:
            self._on_close(self._whole())

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self._closed = True
            self._on_lost()

    def _keep(self, part: bytes) -> None:
        if self._kept is not None:
            self._keep_bytes -= len(part)
            if self._keep_bytes >= 0:
                self._kept.append(part)
            else:
                self._kept = None

    def _whole(self) -> bytes | None:
        return b"".join(self._kept) if self._complete and self._kept is not None else None
