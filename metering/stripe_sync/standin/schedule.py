"""What is due next, of the documents that time changes: an index over the store, kept as changes are committed."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Mapping

from metering.stripe_sync.standin.store import Change, Document

Due = tuple[int, str, str]


class Schedule:
    """One queue a test clock, and one (None) for all that goes by the stand-in's own time."""

    def __init__(self, due: Mapping[str, Callable[[Document], int | None]]) -> None:
        self._due_of = due
        self._times: dict[tuple[str, str], int | None] = {}
        self._queues: dict[str | None, list[Due]] = defaultdict(list)

    def watch(self, change: Change) -> None:
        if change.noun not in self._due_of:
            return
        time = self._due_of[change.noun](change.document)
        self._times[change.noun, change.id] = time
        if time is not None:
            heapq.heappush(self._queues[change.document.get("test_clock")], (time, change.noun, change.id))

    def first(self, clock: str | None, until: float) -> Due | None:
        """The earliest of what is due by then; entries that no longer hold are dropped on the way."""
        queue = self._queues[clock]
        while queue and queue[0][0] <= until:
            time, noun, id = queue[0]
            if self._times[noun, id] == time:
                return queue[0]
            heapq.heappop(queue)
        return None
