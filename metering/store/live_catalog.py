"""What is sold, as a process knows it now: the catalog file, and the meters that were made at run time.

Always holds: what the file says of a meter goes before what is stored; a meter that was known once stays known while
PostgreSQL is away; whoever only counts calls asks nobody. The rows of `meters` are the truth.
"""

import threading
from collections.abc import Iterator, Mapping
from time import monotonic
from typing import Any

import structlog
from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from metering.catalog import Catalog, Meter
from metering.models import MeterRow

MOST_WAIT_SECONDS = 0.5
"""How long a thread waits for another one that is reading them, before it goes on with what is known."""

RETRY_SECONDS = 1.0

log = structlog.get_logger("metering.store")


class LiveCatalog:
    """`file` is the catalog file's; `current` has the stored meters besides, as they were read last."""

    def __init__(self, file: Catalog) -> None:
        self.file = file
        self.current = file
        self.meters: Mapping[str, Meter] = _CurrentMeters(self)
        self._definitions: dict[str, Any] = {}
        self._read_at = self._retry_at = float("-inf")
        self._lock = threading.Lock()

    def refresh(self, sessions: "sessionmaker[Session]", max_age_seconds: float) -> None:
        """Read the stored meters, if that was longer ago than `max_age_seconds`."""
        if self._is_fresh(max_age_seconds) or not self._lock.acquire(timeout=MOST_WAIT_SECONDS):
            return
        try:
            if not self._is_fresh(max_age_seconds):
                self._read(sessions)
        finally:
            self._lock.release()

    def _is_fresh(self, max_age_seconds: float) -> bool:
        now = monotonic()
        return now - self._read_at < max_age_seconds or now < self._retry_at

    def _read(self, sessions: "sessionmaker[Session]") -> None:
        began = monotonic()  # what is committed from here on may be missed
        try:
            with sessions() as session:
                # As they were made: which of them is the first to count an event must never change.
                rows = session.execute(
                    select(MeterRow.key, MeterRow.definition).where(MeterRow.origin == "api").order_by(MeterRow.id)
                )
                definitions = {row.key: row.definition for row in rows}
        except SQLAlchemyError as error:
            self._retry_at = monotonic() + RETRY_SECONDS
            log.warning("meters_not_read", error=type(error).__name__)
            return
        self._read_at = began
        if definitions != self._definitions:
            self.current = self.file.with_meters(_usable(definitions))
            self._definitions = definitions


class _CurrentMeters(Mapping[str, Meter]):
    """The meters of a live catalog, for those who keep hold of them."""

    def __init__(self, live: LiveCatalog) -> None:
        self._live = live

    def __getitem__(self, key: str) -> Meter:
        return self._live.current.meters[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._live.current.meters)

    def __len__(self) -> int:
        return len(self._live.current.meters)


def _usable(definitions: Mapping[str, Any]) -> dict[str, Meter]:
    """A row that a newer version wrote must not take the other meters away."""
    meters: dict[str, Meter] = {}
    for key, definition in definitions.items():
        try:
            meters[key] = Meter.model_validate(definition)
        except ValidationError as error:
            log.error("meter_not_understood", meter=key, faults=error.error_count())
    return meters
