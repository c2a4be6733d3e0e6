"""What PostgreSQL said last about who may see what, so that live figures can still be shown while it is away.

Kept in this process only, for a quarter of an hour after each look, and dropped as soon as a look says otherwise.
While PostgreSQL is away no membership can change, so what is remembered cannot grow wrong in that time.
"""

import threading
from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Generic, TypeVar

KEPT = timedelta(minutes=15)
MOST = 10_000

T = TypeVar("T")


class Remembered(Generic[T]):
    """Bounded: the entry that was kept longest ago makes room."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[str, str], tuple[datetime, T]] = OrderedDict()

    def keep(self, session_id: str, customer_key: str, value: T, now: datetime) -> None:
        with self._lock:
            self._entries[session_id, customer_key] = (now, value)
            self._entries.move_to_end((session_id, customer_key))
            if len(self._entries) > MOST:
                self._entries.popitem(last=False)

    def recall(self, session_id: str, customer_key: str, now: datetime) -> T | None:
        with self._lock:
            kept = self._entries.get((session_id, customer_key))
        return kept[1] if kept is not None and now - kept[0] <= KEPT else None

    def forget(self, session_id: str) -> None:
        """Everything about a session: it has ended, or lost a customer."""
        with self._lock:
            for key in [key for key in self._entries if key[0] == session_id]:
                del self._entries[key]
