"""What `docs/errors.md` says of each problem, in its own words: whatever shows them cannot part from the document."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
# In a checkout the folder stands beside the package, in a wheel inside it.
DOCS = PACKAGE / "docs" if (PACKAGE / "docs").is_dir() else PACKAGE.parent / "docs"

SECTION = re.compile(r"^(#{1,2}) (.+)$", re.MULTILINE)
STATUS = re.compile(r"Status (\d{3})\b")
FIRST_SENTENCE = re.compile(r"^Status \d{3}[^.]*\.\s+(.*?\.)(?:\s|$)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Entry:
    """A kind of problem. `text` is Markdown, without the heading."""

    code: str
    status: int
    text: str

    @property
    def gist(self) -> str:
        """What it means, in its first sentence."""
        found = FIRST_SENTENCE.match(self.text)
        return " ".join(found[1].split()) if found else ""


@dataclass(frozen=True, slots=True)
class Chapter:
    """A part of the document: its words, and the problems it describes."""

    title: str
    introduction: str
    entries: tuple[Entry, ...]


def read_chapters(document: str) -> tuple[Chapter, ...]:
    """A chapter for each `# heading`; each `## ` in it is an entry, named after a code."""
    heads = list(SECTION.finditer(document))
    ends = [head.start() for head in heads[1:]] + [len(document)]
    chapters: list[tuple[str, str, list[Entry]]] = []
    for head, end in zip(heads, ends, strict=True):
        title, text = head[2].strip("`"), document[head.end() : end].strip()
        if head[1] == "#":
            chapters.append((title, text, []))
        else:
            status = STATUS.match(text)
            chapters[-1][2].append(Entry(title, int(status[1]) if status else 400, text))
    return tuple(Chapter(title, text, tuple(entries)) for title, text, entries in chapters)


@lru_cache(maxsize=1)
def chapters() -> tuple[Chapter, ...]:
    return read_chapters((DOCS / "errors.md").read_text("utf-8"))


@lru_cache(maxsize=1)
def entries() -> Mapping[str, Entry]:
    """All problems by code."""
    return {entry.code: entry for chapter in chapters() for entry in chapter.entries}
