"""Documents by noun and id, kept in an append-only journal that is replayed at start.

One commit is one line of JSON, so it is there whole or not at all, whatever moment the process is killed at. A caller
answers only after `sync`, so an answered change survives `kill -9` and a power cut. A line without its end is dropped.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, TypeAlias

Document: TypeAlias = dict[str, Any]

JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class Change:
    """The new state of one document."""

    noun: str
    id: str
    document: Document


class StoreInUseError(Exception):
    """Another stand-in has this folder open; two writers would tear each other's lines."""


class CorruptJournalError(Exception):
    """A line before the last one can't be read: not a kill's doing, so nothing is guessed."""


class Store:
    """All state of the stand-in. Hold `lock` from the first look to the commit that follows from it."""

    def __init__(self, folder: Path, watchers: Sequence[Callable[[Change], None]] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.lock = threading.RLock()
        self._documents: dict[str, dict[str, Document]] = {}
        self._watchers = watchers
        self._sync_lock = threading.Lock()
        self._fd = os.open(folder / JOURNAL, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._written = self._synced = self._replay(folder / JOURNAL)
        except BlockingIOError as error:
            os.close(self._fd)
            raise StoreInUseError(f"{folder} is in use by another stand-in") from error
        except BaseException:
            os.close(self._fd)
            raise
        _sync_folder(folder)

    def of(self, noun: str) -> dict[str, Document]:
        """The documents of a noun by id, oldest first. Read them under `lock`; change them through `commit` alone."""
        return self._documents.setdefault(noun, {})

    def get(self, noun: str, id: str) -> Document | None:
        return self.of(noun).get(id)

    def commit(self, changes: Sequence[Change]) -> int:
        """Appends the changes as one line and applies them. Answers the position to `sync` to before answering."""
        if changes:
            line = json.dumps([astuple(change) for change in changes], separators=(",", ":"))
            self._append(line.encode() + b"\n")
            self._apply(changes)
        return self._written

    def sync(self, position: int) -> None:
        """Returns once everything up to the position is on disk. Callers that wait together share one fsync."""
        with self._sync_lock:
            if self._synced < position:
                end = self._written
                os.fsync(self._fd)
                self._synced = end

    def close(self) -> None:
        with self.lock, self._sync_lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def _append(self, line: bytes) -> None:
        left = memoryview(line)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError:
            os.ftruncate(self._fd, self._written)
            raise
        self._written += len(line)

    def _apply(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self.of(change.noun)[change.id] = change.document
            for watch in self._watchers:
                watch(change)

    def _replay(self, journal: Path) -> int:
        position = 0
        with journal.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n"):
                    break
                try:
                    changes = [Change(*parts) for parts in json.loads(line)]
                except (ValueError, TypeError) as error:
                    raise CorruptJournalError(f"{journal}: line {number}: {error}") from error
                self._apply(changes)
                position += len(line)
        os.ftruncate(self._fd, position)
        return position


def _sync_folder(folder: Path) -> None:
    """A new file is only there after a power cut if its folder was synced too."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
