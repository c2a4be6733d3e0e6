"""The audit log in sentences: whatever the code writes down has words, also where an older version left facts out."""

import re
from pathlib import Path

import pytest

from metering.operator import sentences

ACTIONS = re.compile(r'(?:note\(\s*|action=|_audit\([^)]*?|_settle\([^)]*?)"([a-z_]+(?:\.[a-z_]+)+)"')


def noted(root: Path) -> set[str]:
    """Every action that some line of the product writes into the audit log."""
    return {name for path in (root / "metering").rglob("*.py") for name in ACTIONS.findall(path.read_text("utf-8"))}


def test_every_action_that_is_written_down_has_words(project_root: Path) -> None:
    found = noted(project_root)
    assert {"key.create", "stripe.retry", "user.create", "stripe.link", "held.drop"} <= found
    assert found - {*sentences.WORDS, *sentences.SPECIAL} == set()


@pytest.mark.parametrize(
    ("action", "facts", "says"),
    [
        ("key.revoke", {"key": 7, "name": "server"}, "revoked the API key “server”"),
        ("key.revoke", {"key": 7}, "revoked the API key"),
        ("customer.change", {"status": "suspended"}, "suspended the customer"),
        ("webhook_endpoint.switch", {"endpoint": 3, "on": False}, "switched the webhook endpoint 3 off"),
        (
            "user.turn_off_two_step",
            {"user": 1, "email": "ada@example.com"},
            "turned off the second step of ada@example.com",
        ),
        ("what.ever", {}, "did what.ever"),
    ],
)
def test_what_was_done_is_a_sentence(action: str, facts: dict[str, object], says: str) -> None:
    assert sentences.sentence(action, facts) == says
