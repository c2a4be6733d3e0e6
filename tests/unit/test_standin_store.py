"""The stand-in's journal: what was committed is there after any interruption, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from metering.stripe_sync.standin.store import JOURNAL, Change, CorruptJournalError, Store, StoreInUseError

ADA = Change("customer", "1", {"name": "Ada"})
BOB = Change("customer", "2", {"name": "Bob"})


def written(folder: Path, *commits: list[Change]) -> bytes:
    """The journal after these commits."""
    store = Store(folder)
    for changes in commits:
        store.sync(store.commit(changes))
    store.close()
    return (folder / JOURNAL).read_bytes()


def replayed(folder: Path) -> dict[str, dict[str, str]]:
    store = Store(folder)
    try:
        return dict(store.of("customer"))
    finally:
        store.close()


def test_a_journal_torn_at_any_byte_keeps_every_whole_commit_and_takes_new_ones(tmp_path):
    whole = written(tmp_path / "whole", [ADA], [BOB])
    first_line = whole.index(b"\n") + 1

    for length in range(len(whole) + 1):
        folder = tmp_path / str(length)
        folder.mkdir()
        (folder / JOURNAL).write_bytes(whole[:length])
        kept = {"1": ADA.document} if length >= first_line else {}
        if length == len(whole):
            kept["2"] = BOB.document

        assert replayed(folder) == kept
        written(folder, [BOB])
        assert replayed(folder) == {**kept, "2": BOB.document}


def test_the_changes_of_one_commit_come_back_all_or_none(tmp_path):
    whole = written(tmp_path, [ADA, BOB])
    (tmp_path / JOURNAL).write_bytes(whole[:-1])

    assert replayed(tmp_path) == {}


def test_a_broken_line_before_the_last_is_named_and_nothing_is_guessed(tmp_path):
    whole = written(tmp_path, [ADA], [BOB])
    (tmp_path / JOURNAL).write_bytes(whole.replace(b"Ada", b'A"a'))

    with pytest.raises(CorruptJournalError, match="line 1"):
        Store(tmp_path)


def test_a_folder_belongs_to_one_store_at_a_time(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(StoreInUseError):
        Store(tmp_path)
    store.close()

    Store(tmp_path).close()


def test_watchers_hear_replayed_and_new_changes_alike(tmp_path):
    written(tmp_path, [ADA])
    heard: list[Change] = []
    store = Store(tmp_path, watchers=[heard.append])
    store.commit([BOB])
    store.close()

    assert heard == [ADA, BOB]
