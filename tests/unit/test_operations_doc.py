"""What docs/operations.md says of commands, checks and logs is what there is."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from metering.cli import commands
from metering.store.verify import BOOKS, LIVE
from metering.stripe_sync import verify as at_stripe

ROOT = Path(__file__).resolve().parents[2]
DOC = (ROOT / "docs" / "operations.md").read_text("utf-8")
SHOWN = sorted({match.strip() for match in re.findall(r"(?:`|\$ )metering ([a-z][^`\n]*)", DOC)})
TABLE = DOC[: DOC.index("\n## Install")]


def resolved(words: str) -> tuple[click.Command, list[str]]:
    """The command that these words name, and the words behind it."""
    command: click.Command = commands
    rest = words.split()
    while isinstance(command, click.Group) and rest and rest[0] in command.commands:
        command = command.commands[rest.pop(0)]
    assert not isinstance(command, click.Group), f"{words!r} names no command"
    return command, rest


def leaves(group: click.Group, path: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, f"{path}{name} ")
        else:
            yield path + name


@pytest.mark.parametrize("words", SHOWN)
def test_a_command_that_is_shown_exists_with_its_options(words: str) -> None:
    command, rest = resolved(words)

    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert set(re.findall(r"--[a-z][a-z-]*", " ".join(rest))) <= known


def test_the_table_names_every_command() -> None:
    named = {*re.findall(r"`(?:metering )?((?:[a-z-]+ )?[a-z-]+)(?= [A-Z\[(-]|`)", TABLE)}

    missing = [path for path in leaves(commands) if path not in named and path.split()[-1] not in named]
    assert missing == []


def test_each_check_of_verify_is_explained_in_its_own_words() -> None:
    explained = dict(re.findall(r"^\| `([a-z]+)` \| ([^|]+) \| [^|]+ \| [^|]+ \|$", DOC, re.MULTILINE))

    assert explained == {**BOOKS, "live": LIVE, at_stripe.NAME: at_stripe.CLAIM}


def test_each_event_of_the_logs_is_explained() -> None:
    sources = [path.read_text("utf-8") for path in (ROOT / "metering").rglob("*.py")]
    logged = {name for source in sources for name in re.findall(r'\blog\.[a-z]+\(\s*"([a-z_]+)"', source)}

    assert logged <= set(re.findall(r"^\| `([a-z_]+)` \|", DOC, re.MULTILINE))
