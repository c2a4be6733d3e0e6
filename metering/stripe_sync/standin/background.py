"""The stand-in's own thread: what happens without a request, a few times a second until it is stopped."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

PAUSE_SECONDS = 0.1

logger = logging.getLogger(__name__)


class Background:
    """A step that fails is logged and tried again at the next round; the others go on."""

    def __init__(self, steps: Sequence[Callable[[], object]]) -> None:
        self._steps = steps
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="standin-background", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when the round that is running has ended."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(PAUSE_SECONDS):
            for step in self._steps:
                try:
                    step()
                except Exception:
                    logger.exception("a background step of the stand-in failed")
