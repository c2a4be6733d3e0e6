"""The stand-in's time: the machine's (or a test's), moved by an offset that is set through `/_standin/clock`."""

from __future__ import annotations

from collections.abc import Callable

from metering.stripe_sync.standin.store import Change, Store

SETTINGS = "setting"


class Clock:
    """Its offset is kept in the store, so that a restart doesn't jump back in time."""

    def __init__(self, store: Store, source: Callable[[], float]) -> None:
        self._store = store
        self._source = source

    def now(self) -> float:
        """Unix seconds."""
        offset = self._store.of(SETTINGS).get("clock", {}).get("offset_seconds", 0.0)
        return self._source() + float(offset)

    def set(self, at: float) -> Change:
        return Change(SETTINGS, "clock", {"offset_seconds": at - self._source()})
