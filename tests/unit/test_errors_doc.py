"""docs/errors.md describes every problem type, with its status, and nothing that does not exist."""

import pkgutil
import re
from importlib import import_module
from pathlib import Path

import pytest

import metering
from metering import manual, problems
from metering.errors import MeteringError

DOC = Path(__file__).resolve().parents[2] / "docs" / "errors.md"
ENTRY = re.compile(r"^## `([^`]+)`\n\nStatus (\d{3})\b", re.MULTILINE)
HEADING = re.compile(r"^## (.*)$", re.MULTILINE)
STARTS_A_PROGRAM = re.compile(r"\.(__main__|migrations|testing)\b")


def described() -> dict[str, int]:
    return {code: int(status) for code, status in ENTRY.findall(DOC.read_text("utf-8"))}


def error_types(root: type[MeteringError] = MeteringError) -> set[type[MeteringError]]:
    return {root}.union(*(error_types(child) for child in root.__subclasses__()))


@pytest.fixture(scope="module")
def codes() -> set[str]:
    """Of all error types in the package, and of the tables of `problems`."""
    for module in pkgutil.walk_packages(metering.__path__, "metering."):
        if not STARTS_A_PROGRAM.search(module.name):
            import_module(module.name)
    own = {error.code for error in error_types() if error.__module__.startswith("metering.")}
    return own | problems.STATUSES.keys() | problems.TITLES.keys() | set(problems.HTTP_CODES.values())


def test_every_code_is_described_and_nothing_else(codes: set[str]) -> None:
    assert described().keys() == codes


def test_every_heading_is_an_entry_with_a_status() -> None:
    assert HEADING.findall(DOC.read_text("utf-8")) == [f"`{code}`" for code in described()]


def test_codes_stand_in_alphabetical_order() -> None:
    for chapter in manual.chapters():
        codes = [entry.code for entry in chapter.entries]
        assert codes == sorted(codes)


def test_the_product_reads_the_same_from_it() -> None:
    assert {code: entry.status for code, entry in manual.entries().items()} == described()
    assert [entry.code for entry in manual.entries().values() if not entry.gist] == []


def test_each_status_is_the_one_that_is_answered(codes: set[str]) -> None:
    assert described() == {code: problems.status_of_code(code) for code in codes}
