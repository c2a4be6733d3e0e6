"""What the pages show is decided here, purely: where the bar ends, which state it is in, what counts as a change."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from metering.dashboard.view_models import (
    AlertsView,
    AlertView,
    Bar,
    bar_for,
    initials,
    percent_of,
    state_for,
)


@pytest.mark.parametrize(
    ("used", "limit", "included", "held", "bar"),
    [
        (42, 100, 10, 0, Bar(used=Decimal(42), held=Decimal(0), included=Decimal(10), limit=Decimal(100))),
        (42, 100, 10, 8, Bar(used=Decimal(42), held=Decimal(8), included=Decimal(10), limit=Decimal(100))),
        # Past the limit the bar grows, and the limit is a mark on it.
        (125, 100, None, 0, Bar(used=Decimal(100), held=Decimal(0), included=None, limit=Decimal(80))),
        # More is included than the plan allows to use: no mark.
        (500, 1000, 10_000, 0, Bar(used=Decimal(50), held=Decimal(0), included=None, limit=Decimal(100))),
        # Without a limit the included units are the end, and beyond them there is always room.
        (50, None, 100, 0, Bar(used=Decimal(50), held=Decimal(0), included=Decimal(100), limit=None)),
        (1000, None, 100, 0, Bar(used=Decimal(75), held=Decimal(0), included=Decimal("7.50"), limit=None)),
        (1000, None, None, 0, Bar(used=Decimal(0))),
        (0, 100, 0, 0, Bar(used=Decimal(0), held=Decimal(0), included=None, limit=Decimal(100))),
        (0, 0, None, 0, Bar(used=Decimal(100))),
        (0, None, None, 0, Bar(used=Decimal(0))),
    ],
)
def test_where_things_lie_on_the_bar(used, limit, included, held, bar):
    exact = [None if value is None else Decimal(value) for value in (limit, included)]
    assert bar_for(Decimal(used), limit=exact[0], included=exact[1], held=Decimal(held)) == bar


@pytest.mark.parametrize(
    ("used", "limit", "state"),
    [
        ("0", "100", "ok"),
        ("79.99", "100", "ok"),
        ("80", "100", "warn"),
        ("99999", "100000", "warn"),
        ("100", "100", "full"),
        ("101", "100", "full"),
        ("0", "0", "full"),
        ("5", None, "unlimited"),
    ],
)
def test_states(used, limit, state):
    assert state_for(percent_of(Decimal(used), None if limit is None else Decimal(limit))) == state


def test_a_fingerprint_changes_with_anything_that_is_shown_and_with_nothing_else():
    at = datetime(2026, 11, 23, tzinfo=UTC)
    alert = AlertView("a", "warning", "Near the limit", "83 of 100", "api_call", at, "just now")
    seen = AlertsView("acme", (alert,))

    assert AlertsView("acme", (replace(alert),)).fingerprint == seen.fingerprint
    assert AlertsView("acme", (replace(alert, at_text="1 minute ago"),)).fingerprint != seen.fingerprint
    assert AlertsView("acme").fingerprint != seen.fingerprint


@pytest.mark.parametrize(
    ("name", "letters"),
    [("Acme Robotics", "AR"), ("acme", "A"), ("Fresh & Co", "FC"), ("", "?"), ("<>", "?"), ("3M", "3")],
)
def test_initials(name, letters):
    assert initials(name) == letters
